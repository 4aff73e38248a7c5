"""Chat templates as programs: the sandbox that transformers runs them in, with limits on steps, time and size.

A template comes with a model or from a file, so it may loop without end or write without end. Every loop and macro
counts its steps, and whatever grows a text is measured; nothing depends on signals, so it holds in any process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from align.encoding.metering import (
    Overrun,
    check_format,
    check_replace,
    check_size,
    check_widths,
    checked,
    concat,
    measured,
)

MAX_STEPS = 1_000_000
MAX_SECONDS = 5.0
OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Noncharacters around what a template puts between `{% generation %}` and `{% endgeneration %}`, where asked for."""


class GenerationBlock(Extension):  # type: ignore[misc]
    """The `{% generation %}` block, in which templates for training write what the assistant said."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        """Read a block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        text = caller()
        return f"{OPEN}{text}{CLOSE}" if self.environment.marks else text


class TemplateSandbox(ImmutableSandboxedEnvironment):  # type: ignore[misc]
    """The environment of transformers' chat templates, metered."""

    intercepted_binops = frozenset(["+", "*", "%", "**"])

    def __init__(self, now: datetime) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"])
        self.marks, self.dates = False, dict[str, str]()
        self._steps, self._deadline, self._now = 0, 0.0, now
        self.concat = concat
        filters: dict[str, Any] = {**DEFAULT_FILTERS, "tojson": _to_json}
        self.filters = {name: measured(name, one) for name, one in filters.items()}
        own = {"raise_exception": _raise, "strftime_now": self._date, "dict": dict, "namespace": _Namespace}
        self.globals.update(own)

    def metered(self, source: str) -> Any:
        """Compile a template whose loops, macros and joins are counted."""
        tree = self.parse(source)
        for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
            node.body.insert(0, nodes.ExprStmt(nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None)))
        _replace_joins(tree)
        return self.from_string(nodes.Template(tree.body, lineno=1).set_environment(self))

    def start(self) -> None:
        """Begin a rendering."""
        self._steps, self._deadline = 0, time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        """Count a turn of a loop or a call of a macro."""
        self._steps += 1
        if self._steps > MAX_STEPS or time.monotonic() > self._deadline:
            raise Overrun(f"it takes more than {MAX_STEPS:,} steps or {MAX_SECONDS:.0f} seconds")

    def join(self, *parts: Any) -> str:
        """Return the text of `a ~ b`."""
        return concat(map(str, parts))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls."""
        if getattr(__obj, "__func__", None) is TemplateSandbox.step:
            return __obj()
        text = getattr(__obj, "__self__", None)
        if isinstance(text, str):
            check_widths(args, kwargs)
        if getattr(__obj, "__name__", "") == "replace":
            check_replace(text, *args)
        return checked(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Any:
        """Return the safe form of `"{}".format`."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            check_format(value.__self__)
        return wrapped

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what may grow without bound."""
        if operator == "+":
            return checked(left + right)
        sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
        if operator == "*" and hasattr(sized, "__len__") and isinstance(times, int):
            check_size(len(sized) * times)
        if operator == "**" and abs(right) * len(f"{left:.0f}" if isinstance(left, int | float) else "") > 1000:
            raise Overrun("it raises a number to a power of more than 1000 digits")
        if operator == "%" and isinstance(left, str):
            check_format(left)
        return checked(super().call_binop(context, operator, left, right))

    def _date(self, pattern: str) -> str:
        self.dates[pattern] = self._now.strftime(pattern)
        return self.dates[pattern]


class _Namespace(Namespace):  # type: ignore[misc]
    """Refuses names with an underscore in front, as transformers does."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        names = dict(*args[1:], **kwargs)
        for name in names:
            _check_name(name)
        Namespace.__init__(args[0], names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _replace_joins(tree: nodes.Node) -> None:
    """Put a measured call in the place of every `a ~ b`."""
    for field, value in tree.iter_fields():
        for place, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, nodes.Node):
                continue
            _replace_joins(child)
            if isinstance(child, nodes.Concat):
                new = nodes.Call(nodes.EnvironmentAttribute("join"), child.nodes, [], None, None)
                if isinstance(value, list):
                    value[place] = new.set_lineno(child.lineno)
                else:
                    setattr(tree, field, new.set_lineno(child.lineno))


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)
