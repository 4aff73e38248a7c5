"""Checks on settings in YAML before the parser reads them: what it would accept in silence is refused here.

`checked_tree` is for any text, be it typed or out of a file; `read_settings` reads a file and nothing that is none.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from align.cli.secrets import check_secrets
from align.cli.shipped_configs import config_place, unknown_config
from align.cli.yaml_extent import FAST, check_extent, line_of
from align.cli.yaml_numbers import check_looks
from align.errors import ConfigError, shorten
from align.models.foreign_code import OPTION

MAX_BYTES = 1_000_000
MAX_DIGITS = 18
"""Of a whole number: more do not fit into 64 bits."""
PLAIN = {*yaml.SafeLoader.yaml_constructors, "tag:yaml.org,2002:merge"}
"""Tags of what a file may hold."""


def check_configs(words: Sequence[str]) -> None:
    """Check every file given with `-c FILE`, `-cFILE`, `--config FILE`. Raises ConfigError naming file and line."""
    for place, word in enumerate(words):
        if word in ("-c", "--config"):
            for name in words[place + 1 : place + 2]:
                check_config(name)
        elif word.startswith("--config="):
            check_config(word.removeprefix("--config="))
        elif word.startswith("-c"):
            check_config(word.removeprefix("-c").removeprefix("="))


def check_config(name: str) -> None:
    """Refuse a config that is missing, empty, large, no mapping, or has what `check_yaml` refuses."""
    place, path = f"config {name}", Path(config_place(name)).expanduser()
    if name and not path.exists():
        raise unknown_config(name)
    node = check_yaml(read_settings(path, place), place)
    if node is None:
        raise ConfigError(f"{place}: the file is empty")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{place}: expected settings as `key: value`, found something else")


def read_settings(path: Path, place: str) -> str:
    """Return the text of a file of settings. Raises ConfigError for what is no file, large, no UTF-8, or has secrets.

    A pipe, a socket or a device is refused before it is opened: reading one may never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{place}: cannot be read (not a regular file): give a file of settings")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{place}: larger than {MAX_BYTES:,} bytes")
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{place}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    check_secrets(text, place)
    return text


def check_yaml(text: str, place: str) -> yaml.Node | None:
    """Return the tree of a file's text, None for an empty one.

    Raises ConfigError for what is no YAML, for what `checked_tree` refuses, and for numbers that look like others.
    """
    try:
        node = checked_tree(text, place)
    except yaml.YAMLError as error:
        raise _explained(text, place, error) from error
    if node is not None:
        check_looks(place, node)
    return node


def checked_value(text: str, place: str) -> Any:
    """Return what a text says. Raises ConfigError as `check_yaml` does.

    The fast parser reads it, as it is the one that checks: they differ, in a question mark before a bracket for one.
    """
    check_yaml(text, place)
    loader = FAST(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def checked_tree(text: str, place: str) -> yaml.Node | None:
    """Return the tree of a text, None for an empty one.

    Raises YAMLError for what is no YAML, ConfigError for what is deep or long, for double keys, tags, and for what
    belongs elsewhere.
    """
    check_extent(text, place)
    node: yaml.Node | None = yaml.compose(text, Loader=FAST)
    if node is not None:
        _check_node(place, node, set())
    return node


def _explained(text: str, place: str, error: yaml.YAMLError) -> ConfigError:
    """Return the error in the words of the slow parser, which says more, where that finds a fault too."""
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as slow:
        error = slow
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    hint = ": indent with spaces, not tabs" if "\\t" in str(error) or (mark and _has_tab(text, mark.line)) else ""
    problem = shorten(getattr(error, "problem", None) or error, 120)
    return ConfigError(f"{place}{where}: not valid YAML, {problem}{hint}")


def _check_node(place: str, node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    line = f"{place}, line {line_of(node)}"
    if node.tag not in PLAIN:
        raise ConfigError(f"{line}: tag {node.tag!r} is not allowed: write plain values")
    if node.tag.endswith(":int") and len(node.value) > MAX_DIGITS:
        raise ConfigError(f"{line}: a number of {len(node.value)} digits, at most {MAX_DIGITS} fit")
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        _check_node(place, item, seen)
    if isinstance(node, yaml.MappingNode):
        _check_keys(place, node)
        for part in (one for pair in node.value for one in pair):
            _check_node(place, part, seen)


def _check_keys(place: str, node: yaml.MappingNode) -> None:
    keys: dict[str, int] = {}
    for key, _ in node.value:
        line = f"{place}, line {line_of(key)}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{line}: a key is a {key.id}, expected the name of a setting")
        if key.value in keys and key.value != "<<":
            raise ConfigError(f"{line}: key {key.value!r} stands twice, first in line {keys[key.value]}")
        if key.tag == "tag:yaml.org,2002:bool":
            raise ConfigError(f"{line}: YAML reads {key.value!r} as true or false: quote it")
        if key.value == OPTION.lstrip("-"):
            raise ConfigError(f"{line}: {key.value} is for the command line alone: leave it out, give {OPTION} there")
        keys[key.value] = line_of(key)


def _has_tab(text: str, line: int) -> bool:
    lines = text.splitlines()
    return line < len(lines) and "\t" in lines[line]
