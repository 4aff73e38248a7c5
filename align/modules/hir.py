"""Hindsight instruction relabelling, which is also the first stage of RAHF-SCIT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.adapters import has_adapters
from align.models.backbone import Backbone
from align.models.condition_file import Form
from align.models.fresh_embeddings import cosine_of_rows, reinitialize_embeddings
from align.models.model_export import is_writer
from align.models.references import Reference
from align.models.stage import base_hash, write_note
from align.objectives.instruction import ContrastiveInstruction
from align.records import CandidateBatch, Instructions, MethodView, StepTotals, TruncationPreset
from align.records.candidate_matrix import sum_runs
from align.scoring import score_responses, score_tokens
from align.scoring.distributions import TokenStatistics, reference_states, token_statistics
from align.training.optimizer import Optimizer
from align.training.reference_policy import ReferencedModule
from align.transfer import tensor_on


class HIRModule(ReferencedModule):
    """Trains one model to answer well under a good instruction and badly under a bad one.

    Each pair is two rows: the chosen response fits the good instruction, the rejected one the bad (Zhang et al. 2023,
    arXiv:2302.05206; RAHF, arXiv:2312.15997, section 3.1). HIR's own sampling phase is not part of it.
    """

    view: MethodView = "pairs"
    truncation: TruncationPreset = "usual"
    learning_rates = (2e-5, 2e-4)
    predicts_asked = True
    instructions: Instructions

    def __init__(
        self,
        backbone: Backbone,
        objective: ContrastiveInstruction = ContrastiveInstruction(),
        *,
        instructions: Instructions = Instructions(),
        init_tokens: Sequence[str] = (),
        reference: Reference | None = None,
        optimizer: Optimizer = Optimizer(lr_scheduler_type="linear"),
        truncation: TruncationPreset | None = None,
    ) -> None:
        """Configure contrastive instruction tuning.

        Args:
            backbone: The model; with `lora` the result is an adapter beside which the base stays whole.
            objective: Likelihood, contrast, divergence and entropy.
            instructions: The two texts, the same in every stage.
            init_tokens: Tokens whose embeddings start afresh, as random directions of the mean length: tokens that were
                never trained point the same way, and no instruction made of them can be told from another.
            reference: What `objective.kl_weight` holds the model to; null takes its start (the base with adapters off,
                the adapter it came with, or a frozen copy of all weights).
            optimizer: AdamW and its schedule.
            truncation: Limits by name, such as a paper's; null takes the usual. `data.encoding.truncation` goes before.
        """
        super().__init__(backbone, optimizer, truncation)
        self.objective, self.instructions, self.init_tokens = objective, instructions, list(init_tokens)
        if init_tokens and backbone.lora is not None:
            raise ConfigError("init_tokens changes the embeddings, which backbone.lora keeps frozen: leave one out")
        if reference is not None and not objective.kl_weight:
            raise ConfigError(
                "model.reference has no effect without objective.kl_weight: leave it out, or set the weight"
            )
        self.reference = reference

    def build(self) -> nn.Module:
        """Load the model, and give instruction tokens fresh rows where asked to."""
        model = super().build()
        self.base_weights = base_hash(model) if has_adapters(model) else ""
        if self.init_tokens:
            reinitialize_embeddings(model, self.tokenizer, self.init_tokens)
        cosine_of_rows(model, self.tokenizer, self.instructions)
        reference = self.build_reference(model, needed=self.objective.kl_weight > 0)
        if self.objective.kl_weight:
            reference.run(model, lambda other: None)  # refuses values computed before training
        return model

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return likelihood over the step's tokens plus contrast over its rows, and the options."""
        good, bad = (self._under(batch, instruction) for instruction in (0, 1))
        lengths = tensor_on(good.logprobs.device, batch.response_lengths)
        place = tensor_on(lengths.device, [n for size in batch.group_sizes for n in range(size)])
        if any(size != 2 for size in batch.group_sizes):
            raise ConfigError(f"data.view makes groups of {set(batch.group_sizes)} responses: instructions need pairs")
        chosen = place == 0
        owner = chosen.repeat_interleave(lengths, output_size=len(good.logprobs))
        sums = [sum_runs(s.logprobs, lengths) for s in (good, bad)]
        match, mismatch = torch.where(chosen, sums[0], sums[1]), torch.where(chosen, sums[1], sums[0])
        margin = self.objective.margin(match, mismatch, lengths)
        weights = batch.candidate_weights()
        token_weights = weights.repeat_interleave(lengths, output_size=len(owner))
        contrast = (self.objective(margin) * weights).sum() / (2 * totals.weight)
        tokens = self._token_losses(good, bad, owner, token_weights)
        self._record(batch, match, mismatch, chosen)
        supervised = (tokens * token_weights).sum() / totals.response_tokens
        return self.objective.contrast_weight * contrast + supervised

    def _under(self, batch: CandidateBatch, instruction: int) -> TokenStatistics:
        """Return token statistics under an instruction; whole distributions only where the objective wants them."""
        asked = batch.under(instruction)
        options: dict[str, Any] = {"layout": self.backbone.layout, "logit_bytes": self.backbone.logit_bytes}
        if not self.objective.needs_distributions:
            tokens = score_tokens(self.model, asked, **options)
            none = torch.zeros_like(tokens.logprobs)
            return TokenStatistics(tokens.logprobs, none, none, none, tokens.counts)
        reference = None
        if self.objective.kl_weight:
            reference = self.built_reference.run(
                self.model, lambda other: reference_states(other, asked, self.backbone.layout)
            )
        return token_statistics(self.model, asked, reference=reference, **options)

    def _token_losses(self, good: TokenStatistics, bad: TokenStatistics, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return the terms that are means over tokens: likelihood, divergence under both instructions, entropy."""
        fitting = TokenStatistics._make(
            [*(torch.where(chosen, a, b) for a, b in zip(good[:4], bad[:4], strict=True)), good[4]]
        )
        objective = self.objective
        means = fitting.vocabulary_means if objective.likelihood_smoothing else None
        losses = objective.supervised_weight * objective.likelihood(fitting.logprobs, means)
        self.record("nll", -fitting.logprobs, weights)
        if objective.needs_distributions:
            divergence = (good.divergences + bad.divergences) / 2
            losses = losses + objective.kl_weight * divergence - objective.entropy_weight * fitting.entropies
            self.record("kl", divergence, weights)
            self.record("entropy", fitting.entropies, weights)
        return losses

    def _record(self, batch: CandidateBatch, match: Tensor, mismatch: Tensor, chosen: Tensor) -> None:
        lengths = tensor_on(match.device, batch.response_lengths)
        margin = self.objective.margin(match, mismatch, lengths).detach()
        weights = batch.candidate_weights()
        for name, rows in (("chosen", chosen), ("rejected", ~chosen)):
            self.record(f"margin/{name}", margin, weights * rows)
            self.record(f"swap_accuracy/{name}", (margin > 0).double(), weights * rows)
        self.record("margin", margin, weights)
        self.record("accuracy", (margin > 0).double(), weights)

    @property
    def form(self) -> Form:
        """Return the instructions: the good one asks for a good response."""
        return self.instructions

    def write_folder(self, folder: Path, *, merge: bool, config: dict[str, Any] | None) -> None:
        """Write the model, and beside it what the second stage checks."""
        super().write_folder(folder, merge=merge, config=config)
        adapter = has_adapters(self.model) and not merge
        if is_writer():
            write_note(folder, "HIRModule", self.base_weights, ["."] if adapter else [], self.instructions)

    def predictions(self, batch: CandidateBatch) -> dict[str, Tensor]:
        """Return log-probabilities under both instructions."""
        options: dict[str, Any] = {"layout": self.backbone.layout, "logit_bytes": self.backbone.logit_bytes}
        good, bad = (score_responses(self.model, batch.under(i), **options) for i in (0, 1))
        return {"logprob_positive": good.logprobs, "logprob_negative": bad.logprobs, "tokens": good.lengths}
