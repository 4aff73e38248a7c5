"""What is typed, in the form the parser reads: flags that stand alone, lists of one, folders of models."""

from __future__ import annotations

import json
import typing
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser


def spelled(parser: ArgumentParser, words: Sequence[str]) -> list[str]:
    """Return a command as the parser reads it.

    A flag that stands alone is set, `--models DIR` is a list of one, and `--model DIR` is `--model.path DIR`.
    """
    kinds = {name: getattr(action, "_typehint", None) for action in parser._actions for name in action.option_strings}
    found, todo = list[str](), list(words)
    while todo:
        word = todo.pop(0)
        option, equals, value = word.partition("=")
        alone = not equals and (not todo or todo[0].startswith("--"))
        names_model = option == "--model" and "--model.path" in kinds
        if kinds.get(option) is bool and alone:
            found += [word, "true"]
        elif alone or not (names_model or _takes_texts(kinds.get(option))):
            found.append(word)
        else:
            value = value if equals else todo.pop(0)
            if names_model:
                found.append(f"{option if _is_settings(value) else '--model.path'}={value}")
            else:
                found.append(f"{option}={_as_list(value)}")
    return found


def listed_first(option: str, words: list[str]) -> list[str]:
    """Return a command whose first words, up to the options, are the values of one option."""
    first = list(takewhile(lambda word: not word.startswith("-"), words))
    return [option, json.dumps(first), *words[len(first) :]] if first else words


def _takes_texts(hint: Any) -> bool:
    """Return whether an option takes a list of texts, and no text."""
    kinds = [hint, *typing.get_args(hint)]
    return list[str] in kinds and str not in kinds


def _as_list(value: str) -> str:
    return value if value == "null" or value.lstrip()[:1] in ("[", "{") else json.dumps([value])


def _is_settings(value: str) -> bool:
    """Return whether what is given for a model are settings, or a file of them, and no folder."""
    return value.lstrip().startswith("{") or Path(value).is_file()
