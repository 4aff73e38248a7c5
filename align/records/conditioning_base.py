"""What every condition in a prompt shares: the rewards it names, where its text stands, and how it is read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from align.errors import ConfigError
from align.records.cap import Cap
from align.records.example import Message
from align.records.reward_directions import Arc, Way

SYSTEM = "You are a helpful, respectful, and honest assistant who always responds to the user in a harmless way."
"""The base sentence of the model that DPA's authors released."""


@dataclass(frozen=True)
class Conditioning(ABC):
    """Writes conditions on two rewards or more into the system turn, and reads them back.

    A rating is in points, 0 to 100; one that is unknown (NaN) is left out.
    """

    attributes: tuple[str, ...] = ("helpfulness", "verbosity")
    """The rewards, as the scorer names them, in the order of the numbers."""
    words: tuple[str, ...] | None = None
    """What prompts call them; null takes their names."""
    arc: Arc = field(default_factory=Arc)
    """Directions of two rewards that are trained on."""
    cap: Cap | None = None
    """Those of three rewards or more, which need it."""
    planar: ClassVar[bool] = True
    system: str = SYSTEM
    """Stands in front of every condition, and alone where there is none; empty for no system turn then."""
    placement: Literal["system", "user"] = "system"
    """`user` puts the text before the first user turn, for a model that knows no system role."""

    def __post_init__(self) -> None:
        count = len(self.attributes)
        for names in (self.attributes, self.named):
            if count < 2 or len(set(names)) != count or len(names) != count:
                raise ConfigError(
                    "conditioning.attributes and words must name two different rewards, or as many more each, got "
                    f"{list(names)}"
                )
        wanted = None if count == 2 else count
        if (self.cap and len(self.cap.axis)) != wanted:
            raise ConfigError(
                f"conditioning.cap: {count} rewards have "
                + ("an arc: leave it out" if wanted is None else f"directions on a cap, whose axis has {count} weights")
            )
        if count > 2 and self.planar:
            raise ConfigError(
                f"{type(self).__name__} writes a place on an arc, of two rewards: use WeightedRating for {count}"
            )

    @property
    def named(self) -> tuple[str, ...]:
        """Return what prompts call the rewards."""
        return self.words or self.attributes

    @property
    def region(self) -> Arc | Cap:
        """Return the directions that are trained on."""
        return self.cap or self.arc

    @abstractmethod
    def direction(self, angle: Way) -> str:
        """Return the clause that asks for a direction: an angle in degrees, or a unit vector of more than two."""

    @abstractmethod
    def ratings(self, points: Sequence[float]) -> str:
        """Return the clause that asks for ratings."""

    @abstractmethod
    def read_direction(self, text: str) -> Way | None:
        """Return the direction a text asks for, None where it asks for none."""

    @abstractmethod
    def read_ratings(self, text: str) -> dict[str, int]:
        """Return the ratings a text asks for."""

    def apply(self, messages: Sequence[Message], clause: str = "") -> tuple[Message, ...]:
        """Return the dialogue under a clause; a system turn that is there stays in front."""
        text = f"{self.system} {clause}".strip()
        if not text:
            return tuple(messages)
        role: Literal["system", "user"] = self.placement
        place = next((i for i, m in enumerate(messages) if m.role == role), None)
        if place is None:
            return (Message(role, text), *messages)
        own = messages[place].content
        joined = f"{own}\n\n{text}" if role == "system" else f"{text}\n\n{own}"
        return (*messages[:place], Message(role, joined), *messages[place + 1 :])

    def plain(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return {"form": type(self).__name__, **asdict(self)}
