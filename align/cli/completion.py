"""`align completion`: a script by which the shell completes verbs, options and files."""

from __future__ import annotations

import argparse
import importlib.util
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from align.cli.functions import FunctionVerb
from align.cli.shipped_configs import is_shipped, shipped
from align.cli.verbs import GROUPS, LISTED
from align.errors import ConfigError


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a script by which the shell completes verbs, options, their values where they are few, configs and files.

    It takes some seconds to make, so keep it, in `~/.local/share/bash-completion/completions/align` for bash, in a file
    `_align` of a folder in fpath for zsh. It needs `pip install 'align-lm[completion]'`.

    Args:
        shell: bash, zsh or tcsh.
    """
    if importlib.util.find_spec("shtab") is None:
        raise ConfigError("completion needs shtab: pip install 'align-lm[completion]'")
    import shtab

    kinds = Kinds(shtab.FILE, {**shtab.FILE, "bash": "_align_configs", "zsh": "_align_configs"})
    print(shtab.complete(_program(kinds), shell, preamble={name: text % _names() for name, text in CONFIGS.items()}))


class Kinds(NamedTuple):
    """How the values of options are completed."""

    file: Mapping[str, str]
    config: Mapping[str, str]
    """By the names of shipped configs, and files; tcsh can do one of them, and takes files."""


CONFIGS = {
    "bash": '_align_configs() {\n  compgen -W "%s" -- "$1"\n  compgen -f -- "$1"\n}',
    "zsh": '_align_configs() {\n  _alternative "configs:shipped config:(%s)" "files:file:_files"\n}',
}
"""What completes the value of `-c` in shells that call functions."""


def _names() -> str:
    """Return the names of the shipped configs, with their folder and, where one alone is called so, without."""
    short = (name.rpartition("/")[2] for name in shipped())
    return " ".join([*filter(is_shipped, short), *shipped()])


def _program(kinds: Kinds) -> argparse.ArgumentParser:
    """Return a plain parser of all commands."""
    program = argparse.ArgumentParser("align")
    verbs = program.add_subparsers()
    for verb, text in LISTED.items():
        parser = verbs.add_parser(verb, help=text)
        if verb not in GROUPS:
            _add_options(parser, (verb,), kinds)
            continue
        below = parser.add_subparsers()
        for name, told in GROUPS[verb].items():
            _add_options(below.add_parser(name, help=told), (verb, name), kinds)
    return program


def _add_options(parser: argparse.ArgumentParser, command: tuple[str, ...], kinds: Kinds) -> None:
    """Add the options of a command, without their types, whose own completion would take minutes."""
    from align.cli.parsers import command_parser  # builds any parser, and so imports everything

    for action in command_parser(command)._actions:
        names = [name for name in action.option_strings if not name.endswith("+")]
        if names and not {"-h", "--help"} & set(names):
            choices = _choices(getattr(action, "_typehint", None))
            added = parser.add_argument(*names, choices=choices, help=str(action.help or "").partition(". ")[0])
            if choices is None:
                found = kinds.config if "-c" in names else kinds.file
                added.complete = found  # type: ignore[attr-defined]


def _choices(hint: Any) -> list[str] | None:
    """Return the values of an option that takes few; None for any other."""
    if hint is bool:
        return ["true", "false"]
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if typing.get_origin(kind) is Literal]
    return [str(value) for value in typing.get_args(kinds[0])] if kinds else None


VERB = FunctionVerb(completion, positional=True)
