"""A class path means the class: no value of the class that it replaces reaches it.

jsonargparse keeps every value of the former class that the new one would take too, be it the module's default objective
or an earlier file's, and merges a list into the one it replaces wherever both are of one length; a setting two classes
deep it hands on as a word, so that null becomes the text None. It has no setting for that, and no method to override:
nested parsers call functions of `jsonargparse._typehints` by their names. So these functions are replaced here, in one
place; another signature than the one written against is refused.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, get_args, get_origin

from jsonargparse import Namespace, _typehints
from jsonargparse._common import get_parsing_setting, is_subclass
from jsonargparse._loaders_dumpers import get_loader_exceptions
from jsonargparse._namespace import subclasses_disabled_meta_key
from jsonargparse._util import NestedArg, parse_value_or_config

from align.cli.class_names import class_at, resolve, subclass_paths
from align.cli.yaml_numbers import UNLIKE
from align.errors import ConfigError

Function = Callable[..., Any]


class _Kept:
    """The type of what a mapping of values of any type holds, in which nothing is read again."""


_written_against: dict[str, list[str]] = {
    "discard_init_args_on_class_path_change": ["parser_or_action", "prev_val", "value"],
    "adapt_typehints": ["val", "typehint"],
    "get_all_subclass_paths": ["cls", "include_abstract", "closed_types"],
    "resolve_class_path_by_name": ["cls", "name"],
    "adapt_class_type": ["value"],
}
_originals: dict[str, Function] = {}


def mean_classes() -> None:
    """Let class paths mean their class in all parsers of this process. Raises ConfigError for another jsonargparse."""
    if _originals:
        return
    found = {name: getattr(_typehints, name, None) for name in _written_against}
    for name, original in found.items():
        parameters = list(inspect.signature(original).parameters) if original else []
        if original is None or parameters[: len(_written_against[name])] != _written_against[name]:
            raise ConfigError(f"jsonargparse: no {name}({', '.join(_written_against[name])}): install version 4.53")
        _originals[name] = original
    for name, function in zip(_written_against, (_forget, _adapt, _subclass_paths, _resolve, _within), strict=True):
        setattr(_typehints, name, function)


def _forget(parser_or_action: Any, prev_val: Any, value: Any) -> None:
    """Forget all values of the class before, where it is another one; the same class by another path keeps its own."""
    before = prev_val.get("class_path") if isinstance(prev_val, Namespace) else None
    if before is None:  # values of a plain dataclass, which has no class path
        _originals["discard_init_args_on_class_path_change"](parser_or_action, prev_val, value)
    elif before != value["class_path"] and class_at(before) is not class_at(value["class_path"]):
        for name in ("init_args", "dict_kwargs"):
            prev_val.pop(name)


def _adapt(val: Any, typehint: Any, **options: Any) -> Any:
    """Adapt a value to its type; a list given whole replaces the one before, item by item.

    A text in a mapping of any values stays one: jsonargparse would read `{pattern: "[a-p]"}` again, as a list, and
    "12" as a number. Raises ValueError for a number typed as 010 or 1:30, which YAML would read as 8 and 90.
    """
    if typehint is _Kept:
        return val
    if isinstance(get_origin(typehint), type) and issubclass(get_origin(typehint), Mapping):
        val, typehint = _of_any(val, typehint)
    if typehint in (int, float) and isinstance(val, str) and UNLIKE.match(val):
        raise ValueError(f"{val!r} is another number to YAML: write it out")
    if isinstance(val, list) and not options.get("append"):
        options["prev_val"] = None
    if inspect.isclass(typehint) and typehint is not type(None) and _is_of_another(options.get("prev_val"), typehint):
        return _instead(val, typehint, options)
    return _originals["adapt_typehints"](val, typehint, **options)


def _of_any(value: Any, mapping: Any) -> tuple[Any, Any]:
    """Return a value and its type, whose own values are kept as they are where it takes any; a word of one is read."""
    key, held = get_args(mapping)
    if held is not Any:
        return value, mapping
    if isinstance(value, NestedArg) and isinstance(value.val, str):
        with suppress(*get_loader_exceptions()):
            read, _ = parse_value_or_config(value.val, enable_path=False, simple_types=True)
            value = NestedArg(value.key, read)
    return value, dict[key, _Kept]  # type: ignore[valid-type]


def _is_of_another(before: Any, kind: type) -> bool:
    """Tell whether a value is of another type of a union, of which one is a dataclass and one has several classes."""
    if not isinstance(before, Namespace) or ("init_args" in before and "class_path" not in before):
        return False
    path = before.get("class_path")
    if path is None:
        return inspect.isabstract(kind)
    found = class_at(path)
    return inspect.isclass(found) and not is_subclass(found, kind)


def _instead(val: Any, kind: type, options: dict[str, Any]) -> Any:
    """Adapt a value to its type where one of another type of a union was set before, of which nothing stays.

    Raises ValueError for a setting of that type alone: the class that was named does not have it.
    """
    if isinstance(val, NestedArg):
        raise ValueError(f"{val.key} is no setting of {kind.__name__} where another class was named")
    found = _originals["adapt_typehints"](val, kind, **{**options, "prev_val": get_parsing_setting("unset_sentinel")})
    if isinstance(found, Namespace):  # it is merged into what was there
        found[subclasses_disabled_meta_key] = found.get(subclasses_disabled_meta_key, False)
        found["init_args"] = found.get("init_args", Namespace())  # type: ignore[no-untyped-call]
    return found


def _subclass_paths(cls: Any, include_abstract: bool = False, closed_types: bool = True) -> list[str]:
    return subclass_paths(_originals["get_all_subclass_paths"], cls, include_abstract, closed_types)


def _resolve(cls: Any, name: str) -> str:
    return resolve(_originals["resolve_class_path_by_name"], cls, name)


def _within(value: Any, *arguments: Any, **options: Any) -> Any:
    """Adapt a class with its settings; one that is parsed already is written again as what it was parsed from."""
    given = value.get("init_args")
    if isinstance(given, NestedArg) and not isinstance(given.val, str):
        value["init_args"] = NestedArg(given.key, json.dumps(given.val, default=str))
    return _originals["adapt_class_type"](value, *arguments, **options)
