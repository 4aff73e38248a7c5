"""Bytes that comparing states takes, found by computing a method's own loss on states without values."""

from __future__ import annotations

from typing import NamedTuple

import torch

from align.models.response_states import RepresentationTargets, ResponseStates
from align.scoring.decoder import unwrapped
from align.sizing.fake_tensors import LiveBytes, storages
from align.sizing.groups import Growth, TypicalGroup
from align.sizing.method import SizableMethod
from align.sizing.pass_cost import PassConditions, conditions_of


class StatesCost(NamedTuple):
    """What a representation method takes on top of its passes."""

    held: Growth
    """What the backward pass through the blocks finds: what the loss has saved, and its gradient."""
    peak: Growth
    """The most, while the loss is computed."""


NO_STATES = StatesCost(Growth(0, 0), Growth(0, 0))


def states_cost(module: SizableMethod, groups: TypicalGroup, conditions: PassConditions, around: int) -> StatesCost:
    """Return what the loss takes by positions; of a module whose model was made fake before."""
    few = max(around // (2 * groups.tokens), 1)
    found = [(count * groups.tokens, *_run(module, groups, conditions, count)) for count in (few, 2 * few)]
    held, peak = ([(positions, own[place]) for positions, *own in found] for place in (0, 1))
    return StatesCost(Growth.through(held), Growth.through(peak))


def _run(module: SizableMethod, groups: TypicalGroup, conditions: PassConditions, count: int) -> tuple[float, float]:
    """Return the bytes that are left for the blocks' backward pass, and the most there were before."""
    model, batch, inner = module.model, groups.batch(count), unwrapped(module.model)
    weight = inner.get_input_embeddings().weight
    counts = tuple(length + 1 for length in batch.response_lengths)
    shape = len(module.layers), sum(counts), inner.config.get_text_config().hidden_size
    live = LiveBytes(storages(model))
    with weight.fake_mode, conditions_of(conditions), live, torch.enable_grad():
        values = torch.empty(shape, dtype=weight.dtype, requires_grad=True)
        states = [ResponseStates(values, torch.zeros(shape[1], dtype=torch.bool), counts)]
        found = [RepresentationTargets(*(torch.empty(shape, dtype=kind) for kind in (weight.dtype, torch.float32)))]
        own = {"plain": lambda given: given, "hidden_states": lambda *_: states.pop(), "targets": lambda _: found.pop()}
        vars(module).update(own, warned=True)  # what it warns of are values
        try:
            loss = module.loss(batch, batch.totals)
        finally:
            for name in own:
                del vars(module)[name]
        torch.autograd.backward(loss)
        del loss
    return float(live.now), float(live.peak)
