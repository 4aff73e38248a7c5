"""Bytes that a training pass over a model keeps and needs, found by running it on tensors without values.

A few blocks are run, one of each kind and one more, at two numbers of positions: what a further block and a further
position cost is exact, whatever the model is made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from align.errors import ModelError
from align.records import CandidateBatch
from align.scoring import read_tokens, token_states
from align.scoring.decoder import PLAIN_HEAD, choose_layout, decoder, unwrapped
from align.scoring.layouts import count_positions, forget_plans
from align.scoring.own_head import is_plain
from align.scoring.responses import TokenStates
from align.sizing.fake_tensors import LiveBytes, attention_of_gpus, grouped_products, make_fake, storages
from align.sizing.groups import AROUND, Growth, TypicalGroup
from align.sizing.meta_model import blocks_of

INDEX = "layer_idx"
"""Where an attention layer keeps its number."""


class PassCost(NamedTuple):
    """What a training pass takes beside weights and gradients."""

    layout: str
    kept: Growth
    """Activations, held until the backward pass."""
    working: Growth
    """What comes on top of them at most, in a block."""


@dataclass(frozen=True)
class PassConditions:
    """How a pass is computed."""

    layout: str = "auto"
    mixed: bool = False
    """Whether autocast makes 16 bits of what is multiplied."""
    gpu: bool = True
    """Whether attention keeps what kernels of a GPU keep."""
    compares: bool = False
    """Whether a reference is run while what the backward pass needs is held."""
    prefetch: int = 1
    """Blocks that FSDP2 gathers beside the one that runs."""
    short: bool = False
    """Whether what is frozen is held in bfloat16 where its checkpoint is: under bf16-mixed."""


def pass_cost(model: nn.Module, groups: TypicalGroup, conditions: PassConditions, *, around: int = AROUND) -> PassCost:
    """Return what a pass costs. The model's tensors are replaced; it cannot be used for anything else.

    Raises ModelError for a model whose shapes depend on values, such as what its router chooses.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    make_fake(model, mode)
    few = max(around // (2 * groups.tokens), 1)
    batches = [groups.batch(count) for count in (few, 2 * few)]
    layout = choose_layout(model, batches[0], conditions.layout)
    positions = [count_positions(batch, layout)[0] for batch in batches]
    every = list(blocks_of(decoder(model)))
    kinds = Counter(_kind(block) for block in every)
    first = {kind: next(block for block in every if _kind(block) == kind) for kind in kinds}
    second = {kind: [block for block in every if _kind(block) == kind][1:2] for kind in kinds}

    def costs(blocks: list[nn.Module]) -> list[tuple[float, float]]:
        with _only(model, blocks), conditions_of(conditions):
            return [_run(model, batch, layout, mode, compares=conditions.compares) for batch in batches]

    base = costs(list(first.values()))
    kept = [found[0] for found in base]
    for kind, count in kinds.items():
        if count > 1:
            more = costs([*first.values(), *second[kind]])
            kept = [own + (count - 1) * (new[0] - old[0]) for own, new, old in zip(kept, more, base, strict=True)]
    working = [found[1] for found in base]
    lines = [Growth.through(list(zip(positions, values, strict=True))) for values in (kept, working)]
    return PassCost(layout, *lines)


def head_cost(model: nn.Module, scored: int, logit_bytes: int, conditions: PassConditions) -> float:
    """Return the most bytes that logits of so many tokens take, with their gradients; of a model made fake before."""
    inner = unwrapped(model)
    body, projection = decoder(model), inner.get_output_embeddings()
    mode = next(model.parameters()).fake_mode  # type: ignore[attr-defined]
    _note_plain(inner, body, projection)
    half = conditions.mixed or projection.weight.dtype != torch.float32
    dtype = torch.bfloat16 if half else torch.float32
    with mode, conditions_of(conditions):
        hidden = torch.empty(scored, projection.weight.shape[1], dtype=dtype, requires_grad=True)
        states = TokenStates(hidden, torch.zeros(scored, dtype=torch.long), torch.tensor([scored]))
        live = LiveBytes(storages(model) | {hidden.untyped_storage()._cdata})
        with live, torch.enable_grad():
            found = read_tokens(model, states, logit_bytes=logit_bytes).logprobs
            if conditions.compares:
                with torch.no_grad():
                    read_tokens(model, states, logit_bytes=logit_bytes)
            found.sum().backward()  # type: ignore[no-untyped-call]
    return float(live.peak)


@torch.no_grad()
def _note_plain(inner: Any, body: nn.Module, projection: Any) -> None:
    """Find out with memory that is never touched what the model would find out by itself: values are compared."""
    if hasattr(inner, PLAIN_HEAD):
        return
    own = projection._parameters["weight"]
    projection._parameters["weight"] = nn.Parameter(torch.empty(own.shape, dtype=own.dtype), requires_grad=False)
    try:
        setattr(inner, PLAIN_HEAD, is_plain(inner, body, projection))
    finally:
        projection._parameters["weight"] = own


@contextmanager
def conditions_of(conditions: PassConditions) -> Iterator[None]:
    """Compute as the conditions say."""
    with (
        attention_of_gpus() if conditions.gpu else nullcontext(),
        grouped_products(),
        torch.autocast("cpu", torch.bfloat16, enabled=conditions.mixed),
    ):
        yield


def _kind(block: nn.Module) -> tuple[Any, ...]:
    """Return what tells blocks apart: shapes, what is trained of them, and the attention they have."""
    attention = getattr(block, "attention_type", None) or getattr(block, "layer_type", None)
    shapes = tuple((name, tuple(p.shape), p.requires_grad) for name, p in block.named_parameters())
    return (type(block), attention, shapes)


@contextmanager
def _only(model: nn.Module, chosen: Sequence[nn.Module]) -> Iterator[None]:
    """Let a model have these blocks only, and their kinds of attention, which are looked up by number."""
    blocks: Any = blocks_of(decoder(model))
    config = decoder(model).config.get_text_config()
    kept, depth, kinds = blocks._modules, config.num_hidden_layers, getattr(config, "layer_types", None)
    places = [number for number, block in enumerate(kept.values()) if any(block is one for one in chosen)]
    order = list(kept.values())
    blocks._modules = {str(place): order[number] for place, number in enumerate(places)}
    config.num_hidden_layers = len(places)
    if kinds:
        config.layer_types = [kinds[number] for number in places]
    numbered = [(new, part) for new, old in enumerate(places) for part in order[old].modules() if hasattr(part, INDEX)]
    former = [getattr(part, INDEX) for _, part in numbered]
    for new, part in numbered:
        setattr(part, INDEX, new)
    try:
        yield
    finally:
        for (_, part), old in zip(numbered, former, strict=True):
            setattr(part, INDEX, old)
        blocks._modules, config.num_hidden_layers = kept, depth
        if kinds:
            config.layer_types = kinds


def _run(
    model: nn.Module, batch: CandidateBatch, layout: str, mode: FakeTensorMode, *, compares: bool
) -> tuple[float, float]:
    """Return the bytes held after a forward pass, and how many more there are at most until the end of the backward."""
    forget_plans()
    live = LiveBytes(storages(model))
    try:
        with mode, live, torch.enable_grad():
            states = token_states(model, batch, layout=layout).hidden
            held = live.now
            if compares:
                with torch.no_grad():
                    token_states(model, batch, layout=layout)
            gradient = torch.empty_like(states)
            states.backward(gradient)  # type: ignore[no-untyped-call]
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        kind = unwrapped(model).config.model_type
        raise ModelError(
            f"model type {kind}: what it keeps depends on values, so its activations cannot be known from its "
            f"configuration ({type(error).__name__}: {error}): measure a short run (train/memory_gb)"
        ) from error
    finally:
        forget_plans()  # its tensors have no values
    return held, live.peak - held
