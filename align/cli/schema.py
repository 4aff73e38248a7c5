"""`align schema`: what a file of settings may hold, as a JSON schema for editors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from align.cli.class_names import class_at
from align.cli.functions import FunctionVerb
from align.cli.typed_words import listed_first
from align.cli.verbs import commands
from align.errors import ConfigError, did_you_mean


def schema(command: list[str] | None = None, *, out: str | None = None) -> None:
    """Write the JSON schema of a verb's settings: with it editors complete and check YAML files given by `-c`.

    It is for fragments too, which leave to other files what they do not say: nothing is required, a class may be left
    out, `callbacks+` appends. With the YAML extension of an editor, the first line of a file names it:
    `# yaml-language-server: $schema=align.schema.json`.

    Args:
        command: Before all options, the verb, as in `align schema data rank`; null takes fit.
        out: File to write; null prints.
    """
    from align.cli.parsers import command_parser  # builds any parser, and so imports everything

    words, known = tuple(command or ["fit"]), [" ".join(found) for found in commands()]
    if " ".join(words) not in known:
        raise ConfigError(f"schema {' '.join(words)}: no such verb{did_you_mean(' '.join(words), known)}")
    text = json.dumps(for_fragments(json.loads(command_parser(words).get_completion_script("jsonschema"))), indent=1)
    if out is None:
        print(text)
        return
    Path(out).write_text(text + "\n", encoding="utf-8")
    print(f"{out}: begin a file with `# yaml-language-server: $schema={out}`")


def for_fragments(node: Any) -> Any:
    """Return a schema that asks for nothing, takes all names of classes, and lists that are appended to."""
    if isinstance(node, list):
        return [for_fragments(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    found = {key: for_fragments(inner) for key, inner in node.items() if not _asks(key, inner)}
    if isinstance(found.get("properties"), dict):
        own = found["properties"]
        if "const" in own.get("class_path", {}):
            own["class_path"] = {"enum": _names(own["class_path"]["const"])}
        elif own.keys() - {"$schema"}:  # settings of a class that has no others may be written under its path too
            own |= {"class_path": {"type": "string"}, "init_args": {"type": "object"}}
        own |= {f"{name}+": inner for name, inner in own.items() if _takes_list(inner)}
    return found


def _names(path: str) -> list[str]:
    """Return what a class may be called: by the package that has it, by its own module, by its name alone."""
    kind = class_at(path)
    own = path if kind is None else f"{kind.__module__}.{kind.__qualname__}"
    return list(dict.fromkeys([path, own, path.rpartition(".")[2]]))


def _asks(key: str, inner: Any) -> bool:
    """Return whether a keyword lists what is required; a setting of that name holds a schema."""
    return key == "required" and isinstance(inner, list)


def _takes_list(node: Any) -> bool:
    kinds = [node, *node.get("anyOf", [])] if isinstance(node, dict) else []
    return any(kind.get("type") == "array" for kind in kinds)


VERB = FunctionVerb(schema, reword=partial(listed_first, "--command"))
