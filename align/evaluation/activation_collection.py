"""Activations collected over a data set: difference vectors, directions, and what probes find in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.activations.probing import (
    Accuracy,
    PairStates,
    fit_probe,
    length_accuracy,
    projected,
    random_control,
)
from align.activations.reading_vectors import ReadingVectors, reading_vectors
from align.models.adapters import evaluating
from align.models.response_states import response_states
from align.records import CandidateBatch


class Collection(NamedTuple):
    """Response-mean states of pairs, and what instructions change in them, on the CPU."""

    pairs: PairStates
    instructed: Float[Tensor, "response layer hidden"] | None
    """States under the good instruction less those under the bad one, averaged over each response."""
    norms: Float[Tensor, " layer"]
    """Mean norm of the states of response tokens: the unit of a steering coefficient."""


@torch.no_grad()
def collect(
    model: nn.Module, batches: Iterable[CandidateBatch], layers: Sequence[int], limit: int, *, layout: str = "auto"
) -> Collection:
    """Read the states of the first `limit` pairs of some batches, each response over all its tokens."""
    chosen: list[Tensor] = []
    rejected: list[Tensor] = []
    lengths: list[tuple[int, int]] = []
    instructed: list[Tensor] = []
    norms: list[Tensor] = []
    with evaluating(model):
        for batch in batches:
            found = response_states(model, batch, layers, layout=layout)
            means = found.response_means().cpu()
            chosen.append(means[0::2])
            rejected.append(means[1::2])
            lengths += list(zip(batch.response_lengths[::2], batch.response_lengths[1::2], strict=True))
            norms.append(found.values[:, ~found.in_prompt].float().norm(dim=-1).cpu())
            if batch.instructed:
                instructed.append(_instructed(model, batch, layers, layout))
            if len(lengths) >= limit:
                break
    sizes = torch.tensor(lengths[:limit], dtype=torch.float64)
    return Collection(
        PairStates(torch.cat(chosen)[:limit], torch.cat(rejected)[:limit], sizes[:, 0], sizes[:, 1]),
        torch.cat(instructed)[: 2 * limit] if instructed else None,
        torch.cat(norms, dim=1).mean(1),
    )


def _instructed(model: nn.Module, batch: CandidateBatch, layers: Sequence[int], layout: str) -> Tensor:
    good, bad = batch.under(0), batch.under(1)
    begin = [max(pair) for pair in zip(good.prompt_lengths, bad.prompt_lengths, strict=True)]
    above, below = (response_states(model, b, layers, layout=layout, begin=begin) for b in (good, bad))
    return (above.response_means() - below.response_means()).cpu()


def contrast_of(collection: Collection) -> tuple[str, ReadingVectors]:
    """Return what was subtracted from what, and the directions: by instruction where there are instructions."""
    if collection.instructed is None:
        return "chosen - rejected", reading_vectors(collection.pairs.differences)
    return "good instruction - bad instruction", reading_vectors(collection.instructed)


def measures(train: Collection, held_out: Collection, layers: Sequence[int]) -> dict[str, Any]:
    """Return probe accuracies on held-out pairs with their controls, and how the directions are.

    A direction that does not beat the length-only control says nothing about quality.
    """
    found = contrast_of(train)[1]
    by_layer: dict[str, list[Accuracy]] = {
        "mean": projected(held_out.pairs, found.mean),
        "pca": projected(held_out.pairs, found.pca),
        "logistic": projected(held_out.pairs, fit_probe(train.pairs)),
        "random": random_control(held_out.pairs),
        "shuffled_labels": projected(held_out.pairs, fit_probe(train.pairs, shuffled=0)),
    }
    result: dict[str, Any] = {
        "accuracy": {
            name: {str(layer): value._asdict() for layer, value in zip(layers, values, strict=True)}
            for name, values in by_layer.items()
        },
        "length_only": length_accuracy(held_out.pairs)._asdict(),
        "pairs": {"train": len(train.pairs.chosen), "held_out": len(held_out.pairs.chosen)},
    }
    if held_out.instructed is not None:
        unit = torch.nn.functional.normalize(found.mean, dim=-1)
        right = (torch.einsum("nlh,lh->nl", held_out.instructed, unit) > 0).double().mean(0)
        result["instructed_accuracy"] = dict(zip(map(str, layers), right.tolist(), strict=True))
    for name, values in (("consistency", found.consistency), ("explained", found.explained), ("norm", train.norms)):
        result[name] = dict(zip(map(str, layers), values.tolist(), strict=True))
    return result
