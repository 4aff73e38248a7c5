"""What `align check` says of cards: how many a run takes, the largest batch and longest sequence there, its time."""

from __future__ import annotations

from collections.abc import Iterator

from align.models.backbone import Backbone
from align.sizing.cards import CARDS, NODE, Card
from align.sizing.memory import Spread
from align.sizing.sized import MOST, Sized
from align.sizing.speed import share_of_peak

COUNTS = (1, 2, 4, 8, 16, 32, 64)


def spreads(count: int, *, whole: bool) -> list[Spread]:
    """Return how a model may lie on so many cards, from what talks least between machines to what holds most."""
    if count == 1 or whole:
        return [Spread(count)]
    across = [Spread(count, count)] if count > NODE else []
    return [Spread(count)] * (count == COUNTS[1]) + [Spread(count, min(count, NODE))] + across


def told_cards(sized: Sized, tokens: int, positions: float, *, sharded: bool) -> Iterator[str]:
    """Yield one line per card: from how many on a batch of so many positions fits, the largest there, speed and hours.

    Args:
        sized: The run.
        tokens: Positions of its largest batch.
        positions: Those of all epochs; 0 where there are no data.
        sharded: Whether the settings name FSDP2.
    """
    share = share_of_peak(sized.work.parameters)
    yield (
        f"time at {100 * share:.0f} % of a card's bfloat16 peak, which DPO of that size reached on one H100; other "
        "cards, several GPUs and what they say to each other were not measured"
    )
    window = f"the model's window is {sized.window}" if sized.window else "the model names no window"
    yield f"longest: prompt and one response, of a group that is a batch of its own; {window}"
    hours = f"{'hours':>10}{'GPU hours':>11}" if positions else ""
    yield (
        f"{'card':<14}{'GPUs':>6}  {'how':<18}{'peak GiB':>10}{'of':>8}{'largest batch':>15}{'longest':>10}"
        f"{'tokens/s each':>15}{hours}"
    )
    missed = False
    for card in CARDS:
        spread = _first(sized, card, tokens, sharded=sharded)
        missed |= spread is None
        yield _unfit(sized, card) if spread is None else _row(sized, card, spread, tokens, positions)
    if missed and (less := _less(sized.module.backbone)):
        yield f"less memory: {less}; --fit_into 8xH100-80GB proposes settings"


def _first(sized: Sized, card: Card, tokens: int, *, sharded: bool) -> Spread | None:
    """Return the smallest spread that holds a batch."""
    every = [spread for count in COUNTS for spread in spreads(count, whole=sized.whole)]
    fits = [spread for spread in every if sized.memory(tokens, spread).total <= card.usable]
    wanted = (one for one in fits if one.sharded or one.gpus == 1 or not sharded)
    return next(wanted, fits[0] if fits else None)


def _row(sized: Sized, card: Card, spread: Spread, tokens: int, positions: float) -> str:
    rate, peak = sized.rate(card), sized.memory(tokens, spread).total / 2**30
    spent = positions / rate / 3600
    time = f"{spent / spread.gpus:10.1f}{spent:11.1f}" if positions else ""
    largest, longest = sized.largest(card, spread), sized.longest(card, spread)
    batch = f"{largest}{'+' if largest >= MOST else ''}"
    return (
        f"{card.name:<14}{spread.gpus:>6}  {spread!s:<18}{peak:10.1f}{card.usable / 2**30:8.1f}{batch:>15}"
        f"{longest:>10}{rate:15.0f}{time}"
    )


def _unfit(sized: Sized, card: Card) -> str:
    """Say what does not fit: the model, or the batch alone."""
    most = spreads(COUNTS[-1], whole=sized.whole)[-1]
    largest = sized.largest(card, most)
    but = f"; batches of {largest} positions would" if largest else ""
    return f"{card.name:<14}{'-':>6}  does not fit on {COUNTS[-1]}{but}"


def _less(backbone: Backbone) -> str:
    """Return settings that take less memory, from what costs least; empty where all are in use."""
    steps = {
        "--model.backbone.gradient_checkpointing true": not backbone.gradient_checkpointing,
        "-c bfloat16_lora": backbone.lora is None,
        "-c qlora": backbone.quantization is None,
    }
    return ", ".join(name for name, open_ in steps.items() if open_)
