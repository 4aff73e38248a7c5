"""Settings are checked however they come: every file the parsers open, and every value that is written as YAML.

jsonargparse takes a file wherever a class or a group of settings is expected (`--data FILE`, `--trainer FILE`, a path
inside of another file), and reads it in one place, which is replaced here; its loader is set by its own function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as LocalPath
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader
from jsonargparse._paths import Path

from align.cli.included_configs import KEY
from align.cli.yaml_check import check_yaml, checked_tree, read_settings
from align.cli.yaml_numbers import check_looks
from align.errors import ConfigError

INTERPOLATED = "omegaconf+"
"""jsonargparse's mode of a parser whose settings are filled in by omegaconf once all files and options are read."""
_NAME = re.compile(r"\$\{(?=[A-Za-z_][\w.\[\]]*\})")


class FileText(str):
    """The text of a file, which knows its name."""

    place: str = ""


def check_all_settings(verb: str = "") -> None:
    """Let every parser of this process check what it reads. Raises ConfigError where it is asked to read it.

    Args:
        verb: Of the Trainer, whose settings stand below its name; nothing where the settings are all there are.
    """
    usual = get_loader("yaml")
    usual = usual.usual if isinstance(usual, _Checked) else usual
    set_loader("yaml", _Checked(usual), exceptions=(yaml.YAMLError,))
    set_loader(INTERPOLATED, _Checked(usual, verb), exceptions=(yaml.YAMLError,))
    Path.read_text = _read_text  # type: ignore[method-assign]


def rooted(text: str, verb: str) -> str:
    """Return a text whose `${NAME}` say where the settings of the verb stand among those of all."""
    return text if not verb else _NAME.sub(f"${{{verb}.", text)


@dataclass(frozen=True)
class _Checked:
    """The loader of YAML, after the checks."""

    usual: Callable[[str], Any]
    verb: str = ""

    def __call__(self, text: str) -> Any:
        """Return what a text says."""
        plain = rooted(str(text), self.verb)
        if isinstance(text, FileText):
            check_yaml(plain, text.place)
            return _without_named(self.usual(plain))
        _refuse_unlike(checked_tree(plain, "given in YAML"))  # what is no YAML may be a plain text
        return self.usual(plain)


def _without_named(content: Any) -> Any:
    """Return the settings of a file without the files it names, which stand before it in the command."""
    return {k: v for k, v in content.items() if k != KEY} if isinstance(content, dict) and KEY in content else content


def _refuse_unlike(node: yaml.Node | None) -> None:
    """Raise YAMLError for 010 and 1:30, which are then texts and no numbers, as they are for every other program."""
    try:
        if node is not None:
            check_looks("given in YAML", node)
    except ConfigError as error:
        raise yaml.YAMLError(str(error)) from error


def _read_text(self: Path) -> str:
    text = FileText(read_settings(LocalPath(self.absolute), f"config {self.relative}"))
    text.place = f"config {self.relative}"
    return text
