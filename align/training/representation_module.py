"""The step that RAHF-SCIT, RAHF-Dual and LoRRA share: states of a frozen base, a target, an adapter that moves."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from align.activations import choose_layers, decoder_parts
from align.distributed import on_any, rank
from align.errors import ConfigError
from align.models.adapted import TRAINED, add_trained, attach, load_bare, usual_lora
from align.models.adapters import adapters_active, evaluating, freeze_but
from align.models.backbone import Backbone
from align.models.response_states import RepresentationTargets, ResponseStates, reading_vector, response_states
from align.models.sizes_only import sizes_only
from align.models.stage import base_hash, check_note
from align.models.state_cache import StateCache, adapters_hash
from align.objectives.representation import RepresentationAlignment
from align.records import CandidateBatch, StepTotals, TruncationPreset
from align.scoring.distributions import reference_states, token_statistics
from align.training.activation_settings import VIEW, ActivationSettings
from align.training.base_module import AlignModule
from align.training.optimizer import Optimizer
from align.training.representation_metrics import Alignment, LayerErrorProfile, alignment_metrics, layer_warnings
from align.training.run_data import data_of
from align.transfer import tensor_on, to_device

NO_STAGE = "none"


class RepresentationModule(AlignModule):
    """Moves the states of an adapter to those it starts from plus a multiple of a difference of frozen states.

    A subclass says which frozen adapters there are and which of them the policy starts from (`build`), under which
    prompt the policy stands (`plain`), and whose difference it learns (`collect`).
    """

    truncation: TruncationPreset = "rahf"
    start: Sequence[str]
    """Frozen adapters that stay active beside the trained one: those of the model the policy starts from."""
    layers: list[int]
    cache: StateCache | None
    """Where frozen states are kept on disk, if they are."""
    states_settings: tuple[Any, ...]
    """What decides the frozen states beside weights, layers and precision."""

    def __init__(
        self,
        backbone: Backbone,
        objective: RepresentationAlignment,
        *,
        stage1: str | None,
        reading: ActivationSettings,
        optimizer: Optimizer,
        truncation: TruncationPreset | None,
    ) -> None:
        super().__init__(backbone, optimizer, truncation)
        self.objective, self.stage1, self.reading = objective, stage1, reading
        self.max_response, self.view = reading.max_response, VIEW[reading.response_source]
        self.profile, self.warned = LayerErrorProfile(), False

    @abstractmethod
    def plain(self, batch: CandidateBatch) -> CandidateBatch:
        """Return the batch under the prompts the policy is trained on."""

    @abstractmethod
    def collect(self, batch: CandidateBatch) -> RepresentationTargets:
        """Compute plain states and difference vectors of a batch, by frozen passes."""

    def assemble(self, depths: Sequence[float], folders: Mapping[str, Path]) -> nn.Module:
        """Return base, frozen adapters by name and a fresh one below the highest layer; `start` is active beside it.

        `depths` are the usual layers, as shares of the model's.
        """
        model = load_bare(self.backbone, self.tokenizer)
        if self.stage1 not in (None, NO_STAGE) and not sizes_only():
            check_note(self.stage1, base_hash(model), self.instructions)
        self.layers = choose_layers(self.reading.target_layers, depths, len(decoder_parts(model).blocks))
        lora, top = self.backbone.lora or usual_lora(model), max(self.layers)
        model = add_trained(attach(model, folders), [TRAINED], lora, blocks=top + int(self.reading.legacy_lora_span))
        freeze_but(model, [*self.start, TRAINED], [TRAINED])
        kept = self.reading.cache == "disk" and not sizes_only()
        self.cache = self._open_cache(model, list(folders)) if kept else None
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        rank_zero_info(f"layers {self.layers} are read; the adapter has {trained:,} parameters below layer {top}")
        return model.train()  # type: ignore[no-any-return]

    def _open_cache(self, model: nn.Module, adapters: list[str]) -> StateCache:
        header = {
            "method": type(self).__name__,
            "base": base_hash(model),
            "adapters": adapters_hash(model, adapters),
            "layers": self.layers,
            "prompts": repr(self.states_settings),
            "dtype": self.backbone.dtype,
        }
        data = data_of(self.trainer) if self.attached else None
        if data is not None:
            data.refuse_stream("model.reading.cache disk, which keeps the states of every row,")
        return StateCache(Path(self.reading.cache_folder), header, rank())

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the batch's part of the step's alignment loss, over valid tokens or whole windows."""
        if len(set(batch.group_sizes)) != 1:  # the step's totals count groups
            raise ConfigError(
                f"data.view makes groups of {sorted(set(batch.group_sizes))} responses: expected one size"
            )
        found = self.alignment(batch)
        self._log_alignment(found, batch)
        candidates = totals.weight * batch.group_sizes[0]
        prompt_token = int(self.reading.include_last_prompt_token)
        tokens = totals.response_tokens + prompt_token * candidates
        if self.objective.reduction == "window":
            tokens = candidates * (self.reading.max_response + prompt_token)
        return (found.errors * found.weights).sum() / (len(self.layers) * tokens)

    def alignment(self, batch: CandidateBatch) -> Alignment:
        """Return how far the policy's states are from their targets; gradients flow through the errors."""
        targets = self.targets(batch)
        policy = self.hidden_states(self.plain(batch))
        wide = torch.promote_types(policy.values.dtype, torch.float32)
        counts = tensor_on(policy.in_prompt.device, policy.counts)
        weights = batch.candidate_weights().repeat_interleave(counts, output_size=len(policy.in_prompt))
        return Alignment(
            delta=policy.values.detach().to(wide) - targets.base.to(wide),
            base=targets.base.to(wide),
            vector=self.objective.direction(*targets),
            errors=self.objective(policy.values, self.objective.target(*targets)),
            weights=weights if self.reading.include_last_prompt_token else weights * ~policy.in_prompt,
            prompt_weights=weights * policy.in_prompt,
            places=to_device(torch.cat([torch.arange(-1, n - 1).clamp_min(0) for n in policy.counts]), counts.device),
        )

    def targets(self, batch: CandidateBatch) -> RepresentationTargets:
        """Return what `collect` gives, from the cache where there is one; all processes of a sharded model alike."""
        if self.cache is None:
            return self.collect(batch)
        known = self.cache.lookup(batch)
        missed = known is None if self.device_mesh is None else on_any(known is None, self.device)
        if known is not None and not missed:
            return RepresentationTargets(*known)
        fresh = self.collect(batch)
        if known is None:
            self.cache.store(batch, *fresh)
        return fresh

    def hidden_states(self, batch: CandidateBatch, begin: Sequence[int] | None = None) -> ResponseStates:
        """Return the states of the model as it is."""
        return response_states(self.model, batch, self.layers, layout=self.backbone.layout, begin=begin)

    @torch.no_grad()
    def frozen_states(
        self, batch: CandidateBatch, adapters: Sequence[str], begin: Sequence[int] | None = None
    ) -> Float[Tensor, "layer token hidden"]:
        """Return the states of the base with some of its adapters, without dropout."""
        with evaluating(self.model), adapters_active(self.model, adapters):
            return self.hidden_states(batch, begin).values

    def instructed_states(
        self, batch: CandidateBatch, positive: Sequence[str], negative: Sequence[str]
    ) -> Float[Tensor, "layer token hidden"]:
        """Return states under the good instruction less those under the bad one, in float32."""
        good, bad = batch.under(0), batch.under(1)
        begin = [max(lengths) for lengths in zip(good.prompt_lengths, bad.prompt_lengths, strict=True)]
        return reading_vector(self.frozen_states(good, positive, begin), self.frozen_states(bad, negative, begin))

    def _log_alignment(self, found: Alignment, batch: CandidateBatch) -> None:
        if not (self.warned or batch.padding):
            self.warned = True
            low = self.backbone.dtype in ("bfloat16", "float16")
            for warning in layer_warnings(found, self.layers, self.objective.alpha, low=low):
                warnings.warn(warning, stacklevel=2)
        for recorded in alignment_metrics(found, self.layers, self.objective.alpha):
            self.record(*recorded)
        for layer, vectors in zip(self.layers, found.vector, strict=True):
            self._means[self.phase].add_directions(f"layer_{layer:02d}/consistency", vectors, found.weights)
        every = self.reading.log_kl_every_n_steps
        if every and not (self.phase == "train" and self.global_step % every):
            self._record_divergence(batch)
        if self.phase == "train":
            self.profile.add(found, self.objective.alpha)

    @torch.no_grad()
    def _record_divergence(self, batch: CandidateBatch) -> None:
        """Record the exact divergence from the start to the policy at every response token."""
        plain, layout, tile = self.plain(batch), self.backbone.layout, self.backbone.logit_bytes
        with evaluating(self.model):
            with adapters_active(self.model, self.start):
                reference = reference_states(self.model, plain, layout)
            found = token_statistics(self.model, plain, reference=reference, layout=layout, logit_bytes=tile)
        weights = batch.candidate_weights().repeat_interleave(found.counts, output_size=len(found.divergences))
        self.record("kl", found.divergences, weights)
