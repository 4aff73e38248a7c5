"""Runs a plain function as a verb: its signature is the command line."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

from jsonargparse import ArgumentParser

from align.cli.class_paths import mean_classes
from align.cli.explaining import explain_settings
from align.cli.included_configs import with_configs
from align.cli.messages import explain
from align.cli.null_check import check_nulls
from align.cli.number_check import check_numbers
from align.cli.own_packages import allow_imports, check_functions
from align.cli.secrets import check_secret_settings
from align.cli.settings_files import INTERPOLATED, check_all_settings
from align.cli.spellings import INSTEAD
from align.cli.typed_words import spelled
from align.cli.unused import Unused, refuse_unused
from align.cli.verbs import LOADS_MODELS
from align.cli.yaml_check import check_configs
from align.errors import ConfigError


@dataclass(frozen=True)
class FunctionVerb:
    """A function that is a verb: its signature is the command line, and settings may stand in YAML files (`-c`)."""

    function: Callable[..., Any]
    positional: bool = False
    """Whether what is not keyword-only in the function is given without its name."""
    unused: Sequence[Unused] = ()
    """Options that do nothing beside others: one that is given is refused before the function is called."""
    reword: Callable[[list[str]], list[str]] = list
    """Writes as options what the parser cannot read as it is typed."""


def run(verb: FunctionVerb, words: list[str], command: str) -> int:
    """Check the files of a command, run it, and return its exit code."""
    words = with_configs(words)
    check_configs(words)
    if command in LOADS_MODELS:
        from align.cli.start import prepare_loading  # imports transformers, which the others need not

        prepare_loading()
    return call(verb, verb.reword(words), command)


def call(verb: FunctionVerb, words: list[str], command: str) -> int:
    """Parse `words` by the function's signature, call it, and return its exit code (None counts as 0)."""
    function = verb.function
    explain_settings(words)
    parser = parser_of(function, command, positional=verb.positional)
    words = spelled(parser, words)
    try:
        parsed = parser.parse_args(words)
        named = parser.parse_args(words, defaults=False) if verb.unused else None
        check_numbers(parsed)
        check_nulls(parsed, function)
        check_functions(parsed)
        values = parser.instantiate(parsed)
    except ArgumentError as error:
        options = [action.dest for action in parser._actions if not action.dest.endswith(".help")]
        line = explain(error, options, INSTEAD.get(command, {}))
        raise ConfigError(line or str(error)) from error
    check_secret_settings(parsed)
    settings = values.as_dict()
    settings.pop("config", None)
    if named is not None:
        usual = parser.get_defaults()
        set_ = [name for name, value in named.items() if value is not None and not _usual_flag(value, usual.get(name))]
        refuse_unused(verb.unused, set_, settings)
    return function(**settings) or 0


def _usual_flag(value: Any, usual: Any) -> bool:
    """Return whether a flag is set to what it is anyway."""
    return isinstance(value, bool) and value is usual


def parser_of(function: Callable[..., Any], command: str, *, positional: bool = False) -> ArgumentParser:
    """Return the parser of a verb."""
    check_all_settings()
    mean_classes()
    allow_imports()
    parser = ArgumentParser(
        prog=f"align {command}",
        exit_on_error=False,
        allow_abbrev=False,
        description=_summary(function),
        parser_mode=INTERPOLATED,
    )
    parser.add_argument("-c", "--config", action="config", help="YAML file with settings; may be repeated.")
    named: set[str | int] = {
        name for name, p in signature(function).parameters.items() if p.kind is Parameter.KEYWORD_ONLY
    }
    skip = named if positional else set[str | int]()
    parser.add_function_arguments(function, as_positional=positional, as_group=False, skip=skip)
    if skip:  # what is keyword-only in the function is an option on the command line, required or not
        others = signature(function).parameters.keys() - named
        parser.add_function_arguments(function, as_group=False, skip=set(others))
    return parser


def _summary(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").split("\n\n    Args:")[0].strip()
