"""The parser of every command, for what describes settings instead of reading them: schemas and completion."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

import align
from align.cli.class_names import import_all
from align.cli.functions import FunctionVerb, parser_of
from align.cli.lightning import AlignCLI
from align.cli.start import prepare
from align.cli.verbs import FIT_VERBS, LIGHTNING_VERBS, module_of


class _Made(Exception):
    """Leaves the construction of a command line once its parser is there."""

    def __init__(self, parser: ArgumentParser) -> None:
        self.parser = parser


class _ParserOnly(AlignCLI):
    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse nothing."""
        raise _Made(self._parser(next(iter(self.subcommands()))))


def command_parser(command: Sequence[str]) -> ArgumentParser:
    """Return the parser of a command; that of `align fit` for what takes its options."""
    prepare(["--help"])
    for package in pkgutil.iter_modules(align.__path__, "align."):  # so that all classes are known
        if package.ispkg and package.name != "align.cli":
            import_all(package.name)
    if command[0] in FIT_VERBS:
        try:
            _ParserOnly([command[0] if command[0] in LIGHTNING_VERBS else "fit"])
        except _Made as made:
            return made.parser
    verb: FunctionVerb = importlib.import_module(module_of(command)).VERB
    return parser_of(verb.function, " ".join(command), positional=verb.positional)
