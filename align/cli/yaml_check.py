"""Checks on a YAML file before the parser reads it: what the parser would accept in silence is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from align.cli.secrets import check_secrets
from align.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_ALIASES = 100


def check_configs(words: Sequence[str]) -> None:
    """Check every file given with `-c`, `--config`. Raises ConfigError naming file and line."""
    for place, word in enumerate(words):
        if word in ("-c", "--config") and place + 1 < len(words):
            check_config(words[place + 1])
        elif word.startswith("--config="):
            check_config(word.removeprefix("--config="))


def check_config(name: str) -> None:
    """Refuse a config that is missing, empty, large, no mapping, or has double keys, alias bombs or object tags."""
    path = Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"config {name}: larger than {MAX_BYTES:,} characters")
    check_secrets(text, f"config {name}")
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        if aliases > MAX_ALIASES:
            raise ConfigError(f"config {name}: {aliases} aliases, at most {MAX_ALIASES} are allowed")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        hint = ": indent with spaces, not tabs" if "\\t" in str(error) or (mark and _has_tab(text, mark.line)) else ""
        raise ConfigError(f"config {name}{where}: not valid YAML, {getattr(error, 'problem', error)}{hint}") from error
    if node is None:
        raise ConfigError(f"config {name}: the file is empty")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"config {name}: expected settings as `key: value`, found something else")
    _check_node(name, node, set())


def _check_node(name: str, node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    line = node.start_mark.line + 1
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        raise ConfigError(f"config {name}, line {line}: tag {node.tag!r} is not allowed: write plain values")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_node(name, item, seen)
    if isinstance(node, yaml.MappingNode):
        keys: dict[str, int] = {}
        for key, value in node.value:
            place = f"config {name}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{place}: a key is no plain text, expected settings as `key: value`")
            if key.value in keys and key.value != "<<":
                raise ConfigError(f"{place}: key {key.value!r} stands twice, first in line {keys[key.value]}")
            if key.tag == "tag:yaml.org,2002:bool":
                raise ConfigError(f"{place}: YAML reads {key.value!r} as true or false: quote it")
            keys[str(key.value)] = key.start_mark.line + 1
            _check_node(name, value, seen)


def _has_tab(text: str, line: int) -> bool:
    lines = text.splitlines()
    return line < len(lines) and "\t" in lines[line]
