"""Cards that can be rented: their memory and what they compute."""

from __future__ import annotations

import re
from dataclasses import dataclass

from align.errors import ConfigError, did_you_mean

CONTEXT = 1.2
"""GiB that CUDA, its libraries and NCCL take of every card beside what torch allocates."""
FRAGMENTS = 0.04
"""Share of a card that the allocator cannot use, since free memory lies in pieces."""
NODE = 8
"""GPUs of one machine."""


@dataclass(frozen=True)
class Card:
    """A card, by its maker's data sheet."""

    name: str
    gib: float
    """What the driver shows."""
    tflops: float
    """Dense bfloat16 products summed in float32, in 10^12 per second."""

    @property
    def usable(self) -> float:
        """Return the bytes that a run may plan with."""
        return (self.gib * (1 - FRAGMENTS) - CONTEXT) * 2**30


CARDS = (
    Card("RTX3090-24GB", 23.7, 71),
    Card("RTX4090-24GB", 23.5, 165),
    Card("L4-24GB", 22.5, 121),
    Card("RTX5090-32GB", 31.4, 209),
    Card("A100-40GB", 39.4, 312),
    Card("L40S-48GB", 44.7, 362),
    Card("A100-80GB", 79.2, 312),
    Card("H100-80GB", 79.2, 989),
    Card("H200-141GB", 139.8, 989),
    Card("B200-180GB", 178.0, 2250),
)
_PLACE = re.compile(r"(?:(\d{1,4})\s*[x*])?\s*([A-Za-z][\w-]*)")


@dataclass(frozen=True)
class Place:
    """So many cards of a kind, eight to a machine."""

    count: int
    card: Card

    def __str__(self) -> str:
        return f"{self.count}x{self.card.name}"

    @property
    def nodes(self) -> int:
        """Return the machines."""
        return max(self.count // NODE, 1)


def place_of(text: str) -> Place:
    """Read `8xH100-80GB`; the memory may be left out where a card comes with one only.

    Raises ConfigError for another form, a card that is not known, or a number of cards that fills no machines.
    """
    found = _PLACE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--fit_into {text!r}: expected a number of cards and their name, such as 8xH100-80GB")
    count, name = int(found[1] or 1), found[2].upper().replace("_", "-")
    names = {card.name.upper(): card for card in CARDS}
    known = [card for full, card in names.items() if name in (full, full.split("-")[0])]
    if len(known) != 1:
        fault = "is sold in two sizes" if known else f"is not known{did_you_mean(name, names)}"
        listed = ", ".join(card.name for card in known or CARDS)
        raise ConfigError(f"--fit_into {text!r}: card {found[2]!r} {fault}: one of {listed}")
    if count < 1 or (count > NODE and count % NODE):
        raise ConfigError(f"--fit_into {text!r}: expected 1 to {NODE} cards, or a multiple of {NODE}, got {count}")
    return Place(count, known[0])
