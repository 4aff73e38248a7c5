"""The step that RAHF-SCIT, RAHF-Dual and LoRRA share: states of a frozen base, a target, an adapter that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from align.activations import LayerRange
from align.errors import ConfigError
from align.models.adapters import adapters_active, evaluating
from align.models.backbone import Backbone
from align.models.response_states import ResponseStates, response_states
from align.models.state_cache import StateCache
from align.objectives.representation import RepresentationAlignment
from align.records import CandidateBatch, StepTotals, ViewName

ResponseSource = Literal["random", "both", "chosen", "rejected"]
VIEW: dict[ResponseSource, ViewName] = {
    "random": "either",
    "both": "pairs",
    "chosen": "singles",
    "rejected": "worst",
}


@dataclass(frozen=True)
class ActivationSettings:
    """Which responses are read, and which of their states."""

    target_layers: list[int] | LayerRange | None = None
    """Layers that are moved, 1 to the number of blocks; null takes the paper's, scaled to the model's depth."""
    max_response: int = 64
    """Longest response, in tokens; what is beyond is cut."""
    response_source: ResponseSource = "both"
    """Which response of a pair; `random` draws one by a hash of the example's id."""
    include_last_prompt_token: bool = False
    """Also move the state that predicts the first token of the response, as LoRRA does."""
    legacy_lora_span: bool = False
    """Give the block at the highest layer an adapter too, as the released code does: it never gets a gradient."""
    cache: Literal["off", "disk"] = "off"
    """`disk` keeps frozen states of every response seen, for later epochs and runs with another alpha, rate or rank: in
    float32 layers x tokens x width x 8 bytes each."""
    cache_folder: str = "runs/cache/states"
    """Where they are kept, under a hash of all that decides them."""
    log_kl_every_n_steps: int = 0
    """Log `kl` every so many optimiser steps and in validation: the divergence from the start's next-token distribution
    to the policy's, in nats per response token. It costs two whole forward passes; 0 leaves it out."""

    def __post_init__(self) -> None:
        if self.max_response < 1:
            raise ConfigError(f"reading.max_response must be at least 1, got {self.max_response}")
        if self.log_kl_every_n_steps < 0:
            raise ConfigError(f"reading.log_kl_every_n_steps must not be negative, got {self.log_kl_every_n_steps}")


class RepresentationTargets(NamedTuple):
    """What the frozen passes give: plain states and difference vectors."""

    base: Float[Tensor, "layer token hidden"]
    difference: Float[Tensor, "layer token hidden"]


class RepresentationModule(Protocol):
    """What a module that aligns states has."""

    backbone: Backbone
    model: nn.Module
    objective: RepresentationAlignment
    reading: ActivationSettings
    layers: list[int]
    cache: StateCache | None

    def collect(self, batch: CandidateBatch) -> RepresentationTargets:
        """Return base states and difference vectors of a batch."""

    def plain(self, batch: CandidateBatch) -> CandidateBatch:
        """Return the batch under the prompts the policy is trained on."""

    def record(self, name: str, values: Tensor, weights: Tensor | float = 1.0) -> None:
        """Record a metric."""


class Alignment(NamedTuple):
    """One batch, all states in float32."""

    delta: Float[Tensor, "layer token hidden"]
    """How far the policy has moved, without gradient."""
    base: Float[Tensor, "layer token hidden"]
    vector: Float[Tensor, "layer token hidden"]
    """The difference as the target uses it: scaled and clipped."""
    errors: Float[Tensor, "layer token"]
    weights: Float[Tensor, " token"]
    """Weight of the example; 0 where a token does not count."""
    prompt_weights: Float[Tensor, " token"]
    """The same for last prompt tokens, whether they count or not."""
    places: Int[Tensor, " token"]
    """Position in the response; the last prompt token has 0, as the first of the response."""


@torch.no_grad()
def frozen_states(
    module: RepresentationModule, batch: CandidateBatch, adapters: Sequence[str], begin: Sequence[int] | None = None
) -> Tensor:
    """Return the states of the base with some of its adapters, without dropout."""
    with evaluating(module.model), adapters_active(module.model, adapters):
        return hidden_states_of(module, batch, begin).values


def hidden_states_of(
    module: RepresentationModule, batch: CandidateBatch, begin: Sequence[int] | None = None
) -> ResponseStates:
    """Return the states of the model as it is."""
    return response_states(module.model, batch, module.layers, layout=module.backbone.layout, begin=begin)


def instructed_states(
    module: RepresentationModule, batch: CandidateBatch, positive: Sequence[str], negative: Sequence[str]
) -> Float[Tensor, "layer token hidden"]:
    """Return states under the good instruction less those under the bad one, in float32."""
    good, bad = batch.under(0), batch.under(1)
    begin = [max(lengths) for lengths in zip(good.prompt_lengths, bad.prompt_lengths, strict=True)]
    above = frozen_states(module, good, positive, begin)
    return reading_vector(above, frozen_states(module, bad, negative, begin))


def reading_vector(above: Tensor, below: Tensor) -> Tensor:
    """Return a - b in float32 (float64 stays)."""
    wide = torch.promote_types(above.dtype, torch.float32)
    return above.to(wide) - below.to(wide)


def collected_states(module: RepresentationModule, batch: CandidateBatch) -> RepresentationTargets:
    """Return what the frozen passes give, from the cache where there is one."""
    if module.cache is None:
        return module.collect(batch)
    if (found := module.cache.lookup(batch)) is not None:
        return RepresentationTargets(*found)
    fresh = module.collect(batch)
    module.cache.store(batch, *fresh)
    return fresh


def align_states(module: RepresentationModule, batch: CandidateBatch) -> Alignment:
    """Return what a batch shows; gradients flow through the errors."""
    collected = collected_states(module, batch)
    policy = hidden_states_of(module, module.plain(batch))
    wide = torch.promote_types(policy.values.dtype, torch.float32)
    counts = torch.tensor(policy.counts, device=policy.in_prompt.device)
    weights = batch.candidate_weights().repeat_interleave(counts, output_size=len(policy.in_prompt))
    return Alignment(
        delta=policy.values.detach().to(wide) - collected.base.to(wide),
        base=collected.base.to(wide),
        vector=module.objective.direction(collected.base, collected.difference),
        errors=module.objective(policy.values, module.objective.target(collected.base, collected.difference)),
        weights=weights if module.reading.include_last_prompt_token else weights * ~policy.in_prompt,
        prompt_weights=weights * policy.in_prompt,
        places=torch.cat([torch.arange(-1, n - 1).clamp_min(0) for n in policy.counts]).to(counts.device),
    )


def reduced(module: RepresentationModule, found: Alignment, batch: CandidateBatch, totals: StepTotals) -> Tensor:
    """Return the batch's part of the step's loss: over valid tokens, or over whole windows."""
    candidates = totals.weight * batch.group_sizes[0]  # every group has the same size
    prompt_token = int(module.reading.include_last_prompt_token)
    tokens = totals.response_tokens + prompt_token * candidates
    if module.objective.reduction == "window":
        tokens = candidates * (module.reading.max_response + prompt_token)
    return (found.errors * found.weights).sum() / (len(module.layers) * tokens)


def check_sizes(batch: CandidateBatch) -> None:
    """Raise ConfigError unless all groups have as many responses: the loss counts them by groups."""
    if len(set(batch.group_sizes)) != 1:
        raise ConfigError(f"data.view makes groups of {sorted(set(batch.group_sizes))} responses: expected one size")


def describe_reading(layers: Sequence[int], model: Any) -> str:
    """Return one line on what is read and trained."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"layers {list(layers)} are read; the adapter has {trained:,} parameters below layer {max(layers)}"
