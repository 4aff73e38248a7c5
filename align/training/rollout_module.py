"""What methods share that train on samples of the policy as they were drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from align.checks.checked_rows import GroupsOfBatch
from align.distributed import sum_over_ranks
from align.errors import ConfigError
from align.models.adapters import evaluating
from align.models.backbone import Backbone
from align.models.references import Reference
from align.records import CandidateBatch, ResponseScores, SampledRound, SampledTokens, Step
from align.records.candidate_matrix import sum_runs
from align.scoring import TokenScores, TokenStates, read_sampled, token_states
from align.training.optimizer import Optimizer
from align.training.reference_policy import ReferencedModule
from align.training.rollouts import Columns, Rollouts, require_rounds
from align.training.sampled_metrics import SamplesToTake, log_round
from align.training.self_check import check_layouts, start_checked
from align.transfer import tensor_on, to_device


class RolloutModule(ReferencedModule):
    """Trains in rounds of its own samples: what belongs to the policy as a round begins is computed then.

    Old log-probabilities are those of our scorer, not of the engine that drew: the first ratio is exactly 1.
    Samples of another policy are corrected by that of the old one to theirs (decoupled PPO, arXiv:2110.00641).
    """

    view = "samples"
    truncation = "usual"
    entropy_gradients = False
    compares = False  # whether the samples of a prompt are held against each other, and one alone teaches nothing

    def __init__(self, backbone: Backbone, reference: Reference | None, optimizer: Optimizer) -> None:
        super().__init__(backbone, optimizer)
        self.reference = reference
        self.rollouts: Rollouts | None = None
        self.to_take, self._first_step = SamplesToTake(), False
        self.step_samples = self.step_tokens = torch.ones(())  # of all processes

    @property
    @abstractmethod
    def reads_reference(self) -> bool:
        """Whether the reference's log-probabilities are read."""

    @property
    def masks_truncated(self) -> bool:
        """Whether samples cut off at their limit are left out of the loss."""
        return False

    @property
    def reads_old(self) -> bool:
        """Whether advantages need the log-probabilities of the policy as the round began, however few steps follow."""
        return False

    @abstractmethod
    def judge(self, rollouts: Rollouts) -> None:
        """Add the columns that follow from rewards and from what was scored: advantages at least."""

    def score_sampled(self, batch: CandidateBatch, states: TokenStates) -> Columns:
        """Return what else is computed of samples when a round begins, under the policy's states."""
        return {}

    def lacks_for_loss(self, *, drawn_in_rounds: bool) -> str | None:
        """Return what has to be awaited before a loss can be computed: samples, whatever the data hold."""
        return super().lacks_for_loss(drawn_in_rounds=True)

    def build(self) -> nn.Module:
        """Load the policy and its reference."""
        policy = super().build()
        if self.reference is not None and not self.reads_reference:
            raise ConfigError(
                f"{type(self).__name__} reads no reference at beta 0: leave model.reference out, or set objective.beta"
            )
        self.build_reference(policy, needed=self.reads_reference).check_computed("samples of the policy")
        return policy

    def on_fit_start(self) -> None:
        """Make sure that there are rounds."""
        require_rounds(self, getattr(self.trainer.datamodule, "training_source", None))  # type: ignore[attr-defined]
        super().on_fit_start()

    def _check(self, *, gradients: bool = False) -> None:
        """Leave the self-check to the first round, whose samples it looks at."""

    def validation_step(self, batch: Step | CandidateBatch, batch_idx: int) -> None:
        """Compute nothing: the data have prompts only. Callbacks that sample follow."""

    def on_validation_start(self) -> None:
        """Refuse a validation run by itself."""
        self._refuse("validate")

    def on_test_start(self) -> None:
        """Refuse a test run."""
        self._refuse("test")

    def on_predict_start(self) -> None:
        """Refuse to score responses of the data, which are not read."""
        self._refuse("predict")

    def _refuse(self, verb: str) -> None:
        if self.trainer.state.fn == verb:
            raise ConfigError(
                f"{verb} has nothing to compute, {type(self).__name__} reads prompts alone: take align evaluate"
            )

    def begin_round(self, sampled: SampledRound, *, first: bool) -> None:
        """Take the samples of a round, and compute what belongs to the policy as it began, or recall it.

        It is computed on the `first` call alone, before any step; losses on what another engine drew are corrected.
        """
        self._first_step = first
        self.rollouts = Rollouts(sampled)
        if first:
            if not self.checked:
                self.checked = check_layouts(self, GroupsOfBatch(next(iter(sampled.batches()))), gradients=True)
            old = self.reads_old or sampled.steps > 1 or sampled.engine_logprobs is not None
            if old or self.reads_reference:
                self.rollouts.columns = self.rollouts.gathered(self._scored(sampled, old=old))
            self.judge(self.rollouts)
            log_round(self, self.rollouts.compared_with_engine())
            if sampled.steps > 1:
                self.rollouts.keep()
        else:
            self.rollouts.recall()

    @torch.no_grad()
    def _scored(self, sampled: SampledRound, *, old: bool) -> Iterator[tuple[CandidateBatch, Columns]]:
        """Yield this process's batches with log-probabilities of the policy, where `old` asks, and the reference."""
        with self.trainer.precision_plugin.forward_context(), evaluating(self.model):
            for batch in sampled.batches():
                moved, found = self.trainer.strategy.batch_to_device(batch), Columns()
                if old:
                    states = self._states(self.model, moved)
                    old_logprobs = self._read(self.model, states).logprobs
                    found = {"old_logprobs": old_logprobs, **self.score_sampled(moved, states)}
                if self.reads_reference:
                    found["reference_logprobs"] = self._reference(moved, found.get("old_logprobs"))
                yield batch, found

    def _reference(self, batch: CandidateBatch, own: Tensor | None) -> Tensor:
        """Return the reference's log-probabilities; at the very first batch they are compared with the policy's."""
        read = self.built_reference.run(self.model, lambda model: self._read(model, self._states(model, batch)))
        if own is not None:
            policy, reference = (ResponseScores(sum_runs(v, read.counts), read.counts) for v in (own, read.logprobs))
            start_checked(self, policy, reference)
        return read.logprobs

    def _states(self, model: nn.Module, batch: CandidateBatch) -> TokenStates:
        return token_states(model, batch, layout=self.backbone.layout)

    def _read(self, model: nn.Module, states: TokenStates) -> TokenScores:
        assert self.rollouts is not None
        return read_sampled(
            model,
            states,
            temperature=self.rollouts.sampled.temperature,
            logit_bytes=self.backbone.logit_bytes,
            entropy_gradients=self.entropy_gradients and torch.is_grad_enabled(),
        )

    def begin_step(self, step: Step) -> None:
        """Count the samples and tokens of the step, over all processes: what its losses are divided by."""
        counts = torch.zeros(2, device=self.device)
        for batch in step:  # on the device, so that nobody waits for it
            weights, kept = batch.candidate_weights(), to_device(self._kept(batch), self.device)
            lengths = tensor_on(self.device, batch.response_lengths)
            counts = counts + torch.stack([weights.sum(), (weights * kept * lengths).sum()])
        self.step_samples, self.step_tokens = (n.where(n > 0, 1) for n in sum_over_ranks(counts))

    def _kept(self, batch: CandidateBatch) -> Tensor:
        """Return 1 for every sample whose loss counts, on the CPU."""
        assert self.rollouts is not None
        if not self.masks_truncated:
            return torch.ones(batch.num_candidates)
        return self.rollouts.samples_of(batch, self.rollouts.sampled.finished)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note that the policy is no longer that of the round's start."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        self._first_step = False

    def sampled_tokens(self, batch: CandidateBatch, states: TokenStates) -> SampledTokens:
        """Return the tokens of a batch under the policy, with what was computed of them when the round began."""
        assert self.rollouts is not None
        read, known = self._read(self.model, states), self.rollouts.of(batch, states.hidden.device)
        if self._first_step:
            known["old_logprobs"] = read.logprobs.detach()
        counts, kept = states.counts, to_device(self._kept(batch), states.hidden.device)
        counted = kept.repeat_interleave(counts, output_size=len(read.logprobs))
        assert read.entropies is not None
        found = SampledTokens(read.logprobs, entropies=read.entropies, counted=counted, counts=counts, **known)
        return self.to_take.looked_at(batch, found)
