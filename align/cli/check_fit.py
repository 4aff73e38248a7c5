"""What `align check --fit_into` says: the settings with which a run fits into some cards, its time, and its price."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from align.cli.check_plan import Asked, Load
from align.files import atomic_write_text
from align.sizing.cards import Place
from align.sizing.proposal import fragment, propose
from align.sizing.sized import Proposal
from align.sizing.speed import share_of_peak
from align.training.base_module import AlignModule


@dataclass(frozen=True)
class FitRequest:
    """What is asked beside the settings of a run."""

    place: Place | None
    """The cards that it is to fit into."""
    out: str | None = None
    """Where the settings are written."""
    price: float | None = None
    """Of one card for an hour, in whatever currency."""


def tell_fit(module: AlignModule, asked: Asked, load: Load, request: FitRequest) -> Iterator[str]:
    """Yield what fits into a place, and write the settings. Raises ConfigError where nothing fits."""
    place, out = request.place, request.out
    assert place is not None
    fit = propose(module, load.groups, place, longest=load.longest, step_groups=load.step_groups, mixed=asked.mixed)
    for change in fit.changes:
        yield f"WARNING what was asked does not fit, this trains {change}"
    yield from _told_fit(fit, load, place)
    if request.price is not None:
        yield told_cost(request.price, load, place.count, fit.sized.rate(place.card))
    text = (
        f"# {place}: made by align check --fit_into; give it after the settings it was made from, and after --data.\n"
        + fragment(fit, place)
    )
    yield from text.splitlines()
    if out is not None:
        atomic_write_text(Path(out), text)
        yield f"written to {out}"


def _told_fit(fit: Proposal, load: Load, place: Place) -> Iterator[str]:
    memory, rate = fit.memory(), fit.sized.rate(place.card)
    parts = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in memory._asdict().items() if size >= 2**26)
    peak = f"peak {memory.total / 2**30:.1f} GiB of {place.card.usable / 2**30:.1f}"
    yield f"{fit.spread}, batches of {fit.tokens} positions: {parts}: {peak}"
    spent = load.positions / rate / 3600
    time = f", {spent / place.count:.1f} hours, {spent:.1f} GPU hours" if load.positions else ""
    share = share_of_peak(fit.sized.work.parameters)
    yield f"{rate:.0f} tokens/s of each card at {100 * share:.0f} % of its peak (measured on one H100 only){time}"


def told_cost(price: float, load: Load, cards: int, rate: float) -> str:
    """Return what a run costs at a price of one card for an hour; nothing is added for starting, waiting or storage."""
    million = f"{1e6 * price / 3600 / rate:.3g} for a million tokens"
    if not load.positions:
        return f"at {price:g} for a card and hour: {million}; with --data what the run costs"
    cost = load.positions / rate / 3600 * price
    return f"at {price:g} for a card and hour ({price * cards:g} for all {cards}): {cost:.2f}, {million}"
