"""A template under the settings of single rows: one for all rows that have the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from align.encoding.rendering import RowRefused, Template
from align.errors import ConfigError, ModelError
from align.records import Beside

MOST = 64
"""Templates that are kept; a setting such as a date of each row has more."""
AnyTemplate = TypeVar("AnyTemplate", bound=Template)


class SettledTemplates(Generic[AnyTemplate]):
    """Templates by the settings of rows, made when they are first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, AnyTemplate | RowRefused] = {}

    def of(self, settings: Mapping[str, Any], make: Callable[[], AnyTemplate], eos_id: int) -> AnyTemplate:
        """Return the template under these settings.

        Raises RowRefused where the template does not read one of them, cannot be used under them, or ends its turns
        with another token than `eos_id`, which is that of all others.
        """
        key = Beside("", settings).as_text
        if key not in self._made:
            if len(self._made) >= MOST:
                self._made.pop(next(iter(self._made)))
            self._made[key] = _made(make, eos_id)
        found = self._made[key]
        if isinstance(found, RowRefused):
            raise RowRefused(str(found))
        return found


def _made(make: Callable[[], AnyTemplate], eos_id: int) -> AnyTemplate | RowRefused:
    try:
        template = make()
    except (ConfigError, ModelError) as error:
        return RowRefused(str(error))
    return template if template.eos_id == eos_id else RowRefused("chat_template_kwargs end a turn with another token")
