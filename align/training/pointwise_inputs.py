"""What pointwise objectives ask for beside log-probabilities: estimates, running means, values, divergences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from align.errors import ConfigError, DataError
from align.models.adapters import evaluating
from align.models.references import Reference
from align.objectives.objective import Need, Objective
from align.objectives.pointwise import KTO, PointwiseContext
from align.records import CandidateBatch, PointScores, ResponseScores, Step
from align.scoring import TokenStates, token_states
from align.scoring.decoder import head, unwrapped
from align.scoring.divergence import forward_kl
from align.training.mismatched_prompts import mismatched
from align.training.reference_policy import ReferencedModule


class PointwiseInputs(nn.Module):
    """Computes the context of a pointwise objective; what it keeps is in checkpoints and in no exported model."""

    seen: Tensor
    """Sum and number of the log-ratios of all training so far."""

    def __init__(self, needs: Iterable[Need]) -> None:
        super().__init__()
        self.needs = frozenset(needs)
        self._step_kl: Tensor | None = None
        self._step_shift: Tensor | None = None
        if "reward_shift" in self.needs:
            self.register_buffer("seen", torch.zeros(2, dtype=torch.float64))

    def build(self, policy: nn.Module) -> None:
        """Make the value head, zero at the start, where values are needed."""
        if "values" in self.needs:
            inner: Any = unwrapped(policy)
            dtype = torch.float64 if inner.dtype == torch.float64 else torch.float32
            self.value_head = nn.Linear(inner.config.get_text_config().hidden_size, 1, dtype=dtype)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    def begin_step(self, module: ReferencedModule, step: Step) -> None:
        """Compute what the objective reads of the whole step, over its micro-batches and all ranks.

        A shift costs a forward pass more, where the step is more than one micro-batch; with one, the pass that has a
        gradient is enough.
        """
        if "mismatched_kl" in self.needs:
            self._step_kl = self._mismatched_kl(module, *step)
        if "reward_shift" in self.needs and len(step) > 1:
            self._step_shift = self._reward_shift(*self._ratios(module, step))

    def end_step(self) -> None:
        """Forget what belongs to a step."""
        self._step_kl = self._step_shift = None

    def context(
        self, module: ReferencedModule, batch: CandidateBatch, states: TokenStates, ratios: Float[Tensor, " candidate"]
    ) -> PointwiseContext:
        """Return what the objective needs for a batch with these states and log-ratios of the policy."""
        return PointwiseContext(
            mismatched_kl=self._kl(module, batch) if "mismatched_kl" in self.needs else None,
            reward_shift=self._shift(batch, ratios) if "reward_shift" in self.needs else None,
            values=self._values(states) if "values" in self.needs else None,
            forward_kl=self._forward_kl(module, batch, states) if "forward_kl" in self.needs else None,
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
        total, count = across_ranks(torch.stack(sums).sum(0))
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
            self.seen += across_ranks(torch.stack([known.sum(), counts.sum().to(known.dtype)]).double())
        return (self.seen[0] / self.seen[1].clamp(min=1)).to(ratios.dtype)

    def _values(self, states: TokenStates) -> Tensor:
        values: Tensor = self.value_head(states.prompts().detach().to(self.value_head.weight.dtype))
        return values[:, 0]

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


def across_ranks(sums: Tensor) -> Tensor:
    """Return sums over all ranks."""
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums


def point_scores(batch: CandidateBatch, scores: ResponseScores, attribute: str | None = None) -> PointScores:
    """Put scores and the labels of the data together. Raises DataError where a label is missing."""
    labels = batch.labels(attribute)
    if bool(labels.isnan().any()):
        raise DataError(f"a pointwise objective needs a label for every response, some of {batch.ids[:3]} have none")
    return PointScores.of(scores, batch, labels)


def check_reference(reference: Reference, policy: nn.Module, needs: frozenset[Need], reduction: object) -> None:
    """Raise ConfigError for a reference that cannot serve the objective or the reduction."""
    if "forward_kl" in needs:
        reference.run(policy, lambda model: None)
    if reference.precomputed and ("mismatched_kl" in needs or reduction is not None):
        asked = "responses under other prompts" if reduction is None else "weighted sums over tokens"
        raise ConfigError(
            f"this method needs {asked}, a reference computed before training (Cached) holds plain sums of the data as "
            "it is: use BaseWithoutAdapters (with backbone.lora), NamedAdapter or FrozenCopy"
        )


def check_data(objective: Objective, data: Any) -> None:
    """Look at a data module before the first step: rows of steps, balance of labels against their weights."""
    if "mismatched_kl" not in objective.needs or data is None:
        return
    streamed = [range(data.step_groups)] if getattr(data, "streaming", False) else None  # its last step has two or more
    places = {"the first epoch": streamed or data.train_dataloader().sampler.batches()}
    if "val" in data.groups:
        places["the validation split"] = [range(len(data.groups["val"]))]
    for place, steps in places.items():
        if min(map(len, steps)) < 2:
            raise ConfigError(
                f"KTO needs at least 2 rows in every step, and one of {place} holds 1: set data.batching.groups to a "
                "number that leaves no single row, or change data.splits"
            )
    if isinstance(objective, KTO):
        table = data.groups["train"]
        desirable = sum(w for w, row in zip(table.weights, table.table["scores"], strict=True) if row[0][0] == 1)
        undesirable = sum(table.weights) - desirable
        share = objective.desirable_weight * desirable / max(objective.undesirable_weight * undesirable, 1e-9)
        if not 1 <= share <= 4 / 3:
            rank_zero_warn(
                f"KTO: desirable_weight * n_desirable / (undesirable_weight * n_undesirable) is {share:.3g} "
                f"({desirable:g} desirable rows, {undesirable:g} undesirable), the paper advises 1 to 1.33 (Eq. 8)"
            )
