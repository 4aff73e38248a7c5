"""Settings that fit into a place: the fastest that train what was asked, else adapters, and the fragment of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from align.errors import ConfigError
from align.models.backbone import LoRA
from align.sizing.cards import NODE, Place
from align.sizing.groups import TypicalGroup
from align.sizing.memory import Spread
from align.sizing.method import SizableMethod
from align.sizing.pass_cost import PassConditions
from align.sizing.sized import Proposal, Sized

LEAST, USUAL = 4096, 16384
"""Positions of the smallest batch that is proposed without need, and of the largest."""
ADAPTERS = LoRA(r=16, lora_alpha=32)


def propose(
    module: SizableMethod, groups: TypicalGroup, place: Place, *, longest: int, step_groups: int, mixed: bool = True
) -> Proposal:
    """Return the fastest settings that fit.

    Args:
        module: A method's module, not built.
        groups: What batches are made of.
        place: The cards.
        longest: Positions of the largest group, which is in one batch whatever it takes.
        step_groups: TypicalGroup of an optimiser step.
        mixed: Whether precision is bf16-mixed.

    Raises ConfigError where nothing fits.
    """
    wanted = _wanted(groups, place, longest, step_groups)
    conditions = PassConditions(module.backbone.layout, mixed, short=mixed)
    tried: list[tuple[tuple[str, ...], list[Sized]]] = []
    for changed, why in _levels(module):
        tried.append((why, list(_sized(module, groups, conditions, wanted, changed))))
        if found := _fastest(*tried[-1], place, wanted, max(LEAST, longest)):
            return found
    for why, runs in tried:  # in smaller batches
        if found := _fastest(why, runs, place, wanted, longest):
            return found
    last = tried[-1][1][-1]
    least = last.memory(max(longest, 1024), list(_spreads(place, whole=last.whole))[-1]).total
    raise ConfigError(
        f"--fit_into {place}: nothing fits: the least, adapters with activations computed again, needs "
        f"{least / 2**30:.1f} GiB of each for the longest group ({longest} positions), which has "
        f"{place.card.usable / 2**30:.1f}: take more or larger cards, or shorter data (data.encoding.truncation)"
    )


def _fastest(why: tuple[str, ...], runs: list[Sized], place: Place, wanted: int, smallest: int) -> Proposal | None:
    """Return the fastest of some runs that fit in batches of so many positions at least."""
    found: list[tuple[float, bool, Proposal]] = []
    for sized in runs:
        for spread in _spreads(place, whole=sized.whole):
            tokens = min(sized.largest(place.card, spread), wanted)
            if tokens >= min(wanted, smallest):
                found.append((sized.rate(place.card), not spread.sharded, Proposal(sized, spread, tokens, why)))
                break
    return max(found, key=lambda one: one[:2])[2] if found else None


def _sized(
    module: SizableMethod, groups: TypicalGroup, conditions: PassConditions, wanted: int, changed: Mapping[str, Any]
) -> Iterator[Sized]:
    """Yield the run with activations kept, and computed again where the method can do that."""
    yield Sized.of(module, groups, conditions, wanted, **changed, gradient_checkpointing=False)
    try:
        yield Sized.of(module, groups, conditions, wanted, **changed, gradient_checkpointing=True)
    except ConfigError as error:
        if "gradient_checkpointing" not in str(error):
            raise


def _wanted(groups: TypicalGroup, place: Place, longest: int, step_groups: int) -> int:
    """Return the positions of a batch: a GPU's part of a step is enough, and many are no faster than some."""
    part = math.ceil(step_groups / place.count) * groups.tokens
    return max(min(math.ceil(part / 1024) * 1024, USUAL), math.ceil(longest / 1024) * 1024, 1024)


def _levels(module: SizableMethod) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Yield settings of the backbone, from what was asked to what takes least, and what they change of it."""
    yield {}, ()
    if module.backbone.lora is None:
        yield {"lora": ADAPTERS, "dtype": "bfloat16"}, ("adapters on a frozen bfloat16 model, not all weights",)
    elif module.backbone.dtype not in ("bfloat16", "float16"):
        yield {"dtype": "bfloat16"}, ("adapters on the model in bfloat16",)
    if module.backbone.quantization is None:
        four: dict[str, Any] = {"lora": module.backbone.lora or ADAPTERS, "dtype": "bfloat16", "quantization": "nf4"}
        yield four, ("adapters on the model in 4 bits",)


def _spreads(place: Place, *, whole: bool) -> Iterator[Spread]:
    """Yield how a model may lie on the cards, from what talks least to what holds most."""
    yield Spread(place.count)
    if whole:
        return
    if place.count > 1:
        yield Spread(place.count, min(place.count, NODE))
    if place.count > NODE:
        yield Spread(place.count, place.count)


def fragment(fit: Proposal, place: Place) -> str:
    """Return the settings as YAML, to be given after those they were made from."""
    backbone = fit.sized.module.backbone
    model: dict[str, Any] = {"gradient_checkpointing": backbone.gradient_checkpointing}
    if fit.changes and backbone.lora is not None:
        model |= {"dtype": backbone.dtype, "lora": {"r": backbone.lora.r, "lora_alpha": backbone.lora.lora_alpha}}
    if fit.sized.quantised:
        model |= {"quantization": "nf4"}
    settings = {
        "model": {"init_args": {"backbone": model}},
        "data": {"init_args": {"batching": {"tokens": fit.tokens}}},
        "trainer": {
            "accelerator": "gpu",
            "devices": min(place.count, NODE),
            "num_nodes": place.nodes,
            "precision": "bf16-mixed" if fit.sized.conditions.mixed else "32-true",
            "strategy": _strategy(fit.spread),
        },
    }
    return str(yaml.safe_dump(settings, sort_keys=False, width=120))


def _strategy(spread: Spread) -> str | Mapping[str, Any]:
    if not spread.sharded:
        return "ddp" if spread.gpus > 1 else "auto"
    found: dict[str, Any] = {"class_path": "align.training.sharded_strategy.ShardedStrategy"}
    if spread.shards > NODE:
        found["init_args"] = {"shards": spread.shards}
    return found
