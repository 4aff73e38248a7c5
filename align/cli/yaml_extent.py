"""How deep and how long a text in YAML is, known before anything is built for it."""

from __future__ import annotations

from typing import Any

import yaml

from align.errors import ConfigError

MAX_ALIASES = 100
MAX_DEPTH = 50
MAX_VALUES = 20_000
"""Of a file, once its aliases are filled in: they may stand for billions."""
FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_extent(text: str, place: str) -> None:
    """Raise ConfigError for a text that is deep, or long once its aliases are filled in; nothing is built for it."""
    extent = _Extent()
    for event in yaml.parse(text, Loader=FAST):
        if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):  # not the borders of the text
            extent.meet(event, f"{place}, line {line_of(event)}")
    if extent.aliases > MAX_ALIASES:
        raise ConfigError(f"{place}: {extent.aliases} aliases, at most {MAX_ALIASES} are allowed")


class _Extent:
    """The values of a text so far: of the collections that are open, and of all that aliases may stand for."""

    def __init__(self) -> None:
        self.aliases = 0
        self.known: dict[str, int] = {}
        self.open: list[tuple[str, int]] = [("", 0)]

    def meet(self, event: Any, here: str) -> None:
        """Take the next part of the text. Raises ConfigError where it is too much."""
        name = str(getattr(event, "anchor", None) or "")
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append((name, 1))
            if len(self.open) > MAX_DEPTH:
                raise ConfigError(f"{here}: deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._add(*self.open.pop(), here)
        elif isinstance(event, yaml.AliasEvent):
            self.aliases += 1
            if name in dict(self.open):
                raise ConfigError(f"{here}: alias {name!r} stands inside of what it stands for")
            self._add("", self.known.get(name, 1), here)
        else:
            self._add(name, 1, here)

    def _add(self, name: str, size: int, here: str) -> None:
        self.known |= {name: size} if name else {}
        outer, held = self.open[-1]
        self.open[-1] = (outer, held + size)
        if held + size > MAX_VALUES:
            raise ConfigError(f"{here}: more than {MAX_VALUES:,} values, aliases filled in")


def line_of(found: Any) -> int:
    """Return the line of an event or a node."""
    return int(found.start_mark.line) + 1
