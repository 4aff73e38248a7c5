"""Numbers in a YAML file that are others than they look."""

from __future__ import annotations

import re

import yaml

from align.errors import ConfigError

UNLIKE = re.compile(r"[-+]?(0[0-9_]+$|[0-9_]+:)")
"""Numbers of base 8 and base 60."""


def check_looks(place: str, node: yaml.Node) -> None:
    """Raise ConfigError for 1:30 and 010, which YAML reads as 90 and 8."""
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        for one in part if isinstance(part, tuple) else (part,):
            check_looks(place, one)
    if node.tag.endswith((":int", ":float")) and UNLIKE.match(node.value):
        here = f"{place}, line {node.start_mark.line + 1}"
        raise ConfigError(f"{here}: {node.value} is another number to YAML: write it out or quote it")
