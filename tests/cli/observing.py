"""Runs a verb in this process and sees everything a user could: exit code, output, files, and what models were given.

A verb's test states words for every option; each is tried in every mode and must change what is seen, or be refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from align.cli import functions
from align.cli.functions import parser_of
from align.cli.main import main

Words = tuple[str, ...]
ECHOES = ("settings", "fingerprint", "tstamp")
"""Keys of reports that only repeat what was asked."""


_PARSERS = functools.cache(parser_of)
"""Parsers by verb: to make one takes longer than most commands that are refused."""


class Seen(NamedTuple):
    """What a command did."""

    code: int
    out: str
    files: Mapping[str, str]
    inputs: Sequence[Any]
    """Shape and dtype of everything that went into an embedding: batches, and how often a model was run."""

    @property
    def said(self) -> str:
        return self.out.rpartition("\0")[2]


def observe(words: Sequence[str], folder: Path, noted: Sequence[str] = ()) -> Seen:
    """Run a command in a folder of its own; `noted` fills up with what else the caller records meanwhile."""
    folder.mkdir(parents=True)
    before, out, error = Path.cwd(), io.StringIO(), io.StringIO()
    os.chdir(folder)
    torch.manual_seed(1)  # weights drawn at random are others than those of the folder
    try:
        with _recorded() as inputs, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = main(list(words))
    finally:
        os.chdir(before)
    files = {str(p.relative_to(folder)): _content(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    told = [line for line in error.getvalue().splitlines() if line.startswith("align ")]
    return Seen(code, out.getvalue() + "\0" + "\n".join(told), files, [*inputs, *sorted(noted)])


@contextlib.contextmanager
def _recorded() -> Iterator[list[Any]]:
    inputs: list[Any] = []
    original, functions.parser_of = torch.nn.Embedding.forward, _PARSERS

    def forward(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        found = original(self, ids)
        inputs.append((tuple(ids.shape), str(found.dtype)))
        return found

    torch.nn.Embedding.forward = forward  # type: ignore[method-assign]
    try:
        yield inputs
    finally:
        torch.nn.Embedding.forward = original  # type: ignore[method-assign]
        functions.parser_of = parser_of


def _content(path: Path) -> str:
    """Return a file's text without what only echoes settings, or its hash where it is no text."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix == ".json":
        return json.dumps(_plain(json.loads(text)), sort_keys=True)
    if path.suffix == ".jsonl":
        return json.dumps([_plain(json.loads(line)) for line in text.splitlines()], sort_keys=True)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in ECHOES}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def options_of(function: Callable[..., Any]) -> set[str]:
    """Return every option of a verb; a group that may be left out, such as `server`, by its fields."""
    hints = typing.get_type_hints(function)
    found: set[str] = set()
    for action in parser_of(function, "x")._actions:
        if action.dest not in ("help", "config", "print_config") and not action.dest.endswith(".help"):
            found |= set(_leaves(action.dest, hints.get(action.dest)))
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def _leaves(name: str, hint: Any) -> Iterator[str]:
    inner = next((k for k in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(k)), None)
    if inner is None:
        yield name
        return
    for field in dataclasses.fields(inner):
        yield f"{name}.{field.name}"


Observed = Callable[[Sequence[str]], Seen]


class Verb(NamedTuple):
    """A verb with the modes it has and words for each of its options."""

    function: Callable[..., Any]
    name: str
    modes: Mapping[str, Words]
    """What is given in each mode before the option that is tried."""
    options: Mapping[str, Words]
    """Words that should change something in any mode."""
    otherwise: Mapping[tuple[str, str], Words] = {}
    """Other words for an option in a mode."""
    refused: Mapping[tuple[str, str], str] = {}
    """What is said where an option has no use, by mode and option; `*` is every mode."""

    only: Mapping[str, Collection[str]] = {}
    """The options that mean something of their own in a mode; those left out are tried in another mode."""

    def cases(self) -> list[tuple[str, str]]:
        return [(mode, option) for mode in self.modes for option in self.only.get(mode, self.options)]

    def words(self, mode: str, option: str | None = None) -> list[str]:
        base = [*self.name.split(), *self.modes[mode]]
        return base if option is None else [*base, *self.otherwise.get((mode, option), self.options[option])]

    def reason(self, mode: str, option: str) -> str | None:
        return self.refused.get((mode, option), self.refused.get(("*", option)))


def check(verb: Verb, mode: str, option: str, run: Observed) -> None:
    """Assert that an option changes what is seen in a mode, or is refused for the reason that is stated."""
    reason = verb.reason(mode, option)
    plain = run(verb.words(mode)) if reason is None else None  # first, since stores keep what they are told
    tried = run(verb.words(mode, option))
    if plain is None:
        assert tried.code == 2, tried.out
        assert str(reason) in tried.said
        assert not tried.inputs, "a model was run before the option was refused"
        return
    assert plain.code == 0, plain.out
    assert tried.code == 0, tried.out
    assert (tried.out, tried.files, tried.inputs) != (plain.out, plain.files, plain.inputs), f"{option} changed nothing"
