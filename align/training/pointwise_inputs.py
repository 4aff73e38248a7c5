"""What pointwise objectives ask for beside log-probabilities: estimates, running means, values, divergences."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from align.distributed import sum_over_ranks
from align.models.adapters import evaluating
from align.models.value_functions import ValueHead
from align.objectives.objective import Requirement
from align.objectives.pointwise import PointwiseContext
from align.records import CandidateBatch, Step
from align.scoring import TokenStates, token_states
from align.scoring.decoder import head
from align.scoring.divergence import forward_kl
from align.training.mismatched_prompts import mismatched
from align.training.reference_policy import ReferencedModule


class PointwiseInputs(nn.Module):
    """Computes the context of a pointwise objective; what it keeps is in checkpoints and in no exported model."""

    seen: Tensor
    """Sum and number of the log-ratios of all training so far."""

    def __init__(self, requires: Iterable[Requirement]) -> None:
        super().__init__()
        self.requires = frozenset(requires)
        self._step_kl: Tensor | None = None
        self._step_shift: Tensor | None = None
        if "reward_shift" in self.requires:
            self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))

    def build(self, policy: nn.Module) -> None:
        """Make the value head, zero at the start, where values are needed."""
        if "values" in self.requires:
            self.value_head = ValueHead(policy)

    def begin_step(self, module: ReferencedModule, step: Step) -> None:
        """Compute what the objective reads of the whole step, over its micro-batches and all ranks.

        A shift costs a forward pass more, where the step is more than one micro-batch; with one, the pass that has a
        gradient is enough.
        """
        if "mismatched_kl" in self.requires:
            self._step_kl = self._mismatched_kl(module, *step)
        if "reward_shift" in self.requires and len(step) > 1:
            self._step_shift = self._reward_shift(*self._ratios(module, step))

    def end_step(self) -> None:
        """Forget what belongs to a step."""
        self._step_kl = self._step_shift = None

    def context(
        self, module: ReferencedModule, batch: CandidateBatch, states: TokenStates, ratios: Float[Tensor, " candidate"]
    ) -> PointwiseContext:
        """Return what the objective needs for a batch with these states and log-ratios of the policy."""
        return PointwiseContext(
            mismatched_kl=self._kl(module, batch) if "mismatched_kl" in self.requires else None,
            reward_shift=self._shift(batch, ratios) if "reward_shift" in self.requires else None,
            values=self._values(states) if "values" in self.requires else None,
            forward_kl=self._forward_kl(module, batch, states) if "forward_kl" in self.requires else None,
        )

    def _kl(self, module: ReferencedModule, batch: CandidateBatch) -> Tensor:
        return self._mismatched_kl(module, batch) if self._step_kl is None else self._step_kl

    def _shift(self, batch: CandidateBatch, ratios: Tensor) -> Tensor:
        return self._reward_shift(ratios, counted(batch)) if self._step_shift is None else self._step_shift

    @torch.no_grad()
    def _mismatched_kl(self, module: ReferencedModule, *batches: CandidateBatch) -> Tensor:
        """Return the mean log-ratio of mismatched pairs, over all ranks, not below 0."""
        sums = []
        for batch in batches:
            foreign, real = mismatched(batch, module.max_positions)
            with evaluating(module.model):
                policy = module.scored(module.model, foreign).logprobs
            ratios = (policy - module.reference_scores(foreign).logprobs).where(real, 0)
            sums.append(torch.stack([ratios.sum(), real.sum().to(ratios.dtype)]))
        total, count = sum_over_ranks(torch.stack(sums).sum(0))
        mean: Tensor = total / count.clamp(min=1)
        return mean.clamp(min=0)

    @torch.no_grad()
    def _ratios(self, module: ReferencedModule, step: Step) -> tuple[Tensor, Tensor]:
        """Return the log-ratios of a step's rows, and which of them count."""
        found = [
            module.scored(module.model, batch).logprobs - module.reference_scores(batch).logprobs for batch in step
        ]
        return torch.cat(found), torch.cat([counted(batch) for batch in step])

    @torch.no_grad()
    def _reward_shift(self, ratios: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return the mean of all log-ratios of training, with those of this step that count."""
        if self.training:
            counts = torch.ones_like(ratios, dtype=torch.bool) if counts is None else counts
            known = ratios.where(counts, 0)
            self.seen += sum_over_ranks(torch.stack([known.sum(), counts.sum().to(known.dtype)]).double())
        return (self.seen[0] / self.seen[1].clamp(min=1)).to(ratios.dtype)

    def _values(self, states: TokenStates) -> Tensor:
        values: Tensor = self.value_head(states.prompts().detach())
        return values

    def _forward_kl(self, module: ReferencedModule, batch: CandidateBatch, states: TokenStates) -> Tensor:
        reference = module.built_reference
        layout, budget = module.backbone.layout, module.backbone.logit_bytes
        hidden = reference.run(module.model, lambda model: token_states(model, batch, layout=layout).hidden)

        def logits(rows: Tensor) -> Tensor:
            return reference.run(module.model, lambda model: head(model).logits(rows))

        return forward_kl(module.model, states, hidden, logits, logit_bytes=budget)


def counted(batch: CandidateBatch) -> Bool[Tensor, " candidate"]:
    """Return which candidates count: all, but in padding."""
    return torch.full((batch.num_candidates,), not batch.padding, device=batch.response_ids.device)
