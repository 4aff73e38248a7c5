"""Descriptions of settings, read from docstrings where a command asks to be explained: they take a third of a start."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jsonargparse import _typehints, set_parsing_settings

ASKING = re.compile(r"-h|--(.+\.)?help(=.*)?|(--print_config=.*)?comments.*")
"""`--help`, `--model.help DPOModule`, `--print_config=comments`; a path with such a word in it asks for nothing."""
_explained: list[bool] = []


def explain_settings(words: Sequence[str]) -> None:
    """Let parsers that are made from now on describe their settings where a command asks for it.

    Parsers of classes are kept by jsonargparse for the whole process; those made without descriptions are forgotten.
    """
    asked = any(map(ASKING.fullmatch, words))
    if asked and _explained != [True]:
        _typehints._cached_class_parsers.clear()
    if asked or not _explained:
        _explained[:] = [asked]
        set_parsing_settings(docstring_parse_attribute_docstrings=asked)
