"""The child process of a reward function: reads calls as lines of JSON, answers each with a line. Run as a file.

It imports nothing but the standard library and what defines the function. What the function prints goes to the standard
error; it reads no input. The process ends with the one that started it.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import numbers
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TextIO

Reply = dict[str, Any]


def main() -> None:
    """Load the function that the first line names, say what it asks for, then answer calls until there are no more."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    calls, replies = _channels()
    own = os.getpid()
    function: Callable[..., Any] | None = None
    for line in calls:
        asked = json.loads(line)
        try:
            if function is None:
                function = load(**asked)
                reply: Reply = {"asks": asks(function)}
            else:
                reply = {"values": list(values(_called(function, asked)))}
        except BaseException as error:
            reply = {"fault": type(error).__name__, "detail": _detail(error), "place": _place(error)}
        if os.getpid() != own:  # the function has forked: the process that was asked answers, and no other
            os._exit(0)
        replies.write(json.dumps(reply, allow_nan=False) + "\n")
        replies.flush()


def _channels() -> tuple[TextIO, TextIO]:
    """Return where calls come from and replies go to, which the function can no longer read from or print to."""
    calls, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return calls, replies


def load(path: list[str], folder: str, module: str, file: str, name: str) -> Callable[..., Any]:
    """Return the function of a module, or of a file. Raises what its source raises, ImportError for another file."""
    sys.path[:] = [*path, folder]
    if module:
        found = importlib.import_module(module)
        if os.path.realpath(found.__file__ or "") != file:
            raise ImportError(f"{module} is {found.__file__} here, and {file} where it was asked for")
    else:
        spec = importlib.util.spec_from_file_location(os.path.basename(file).removesuffix(".py") + "_rewards", file)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = found
        spec.loader.exec_module(found)
    function = getattr(found, name, None)
    if not callable(function):
        known = [n for n, value in vars(found).items() if inspect.isfunction(value) and not n.startswith("_")]
        raise ImportError(f"no function {name!r} in it (there: {', '.join(known) or 'none'})")
    return function  # type: ignore[no-any-return]


def asks(function: Callable[..., Any]) -> Reply:
    """Return the names a function takes, those it cannot do without, and whether it takes any others.

    A parameter that takes no name, before a `/`, is none of them.
    """
    named, required, others = [], [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            others = others or parameter.kind is parameter.VAR_KEYWORD
        else:
            named.append(name)
            required += [name] if parameter.default is parameter.empty else []
    return {"named": named, "required": required, "others": others}


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    found = function(**arguments)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def values(found: Any) -> Iterator[float | str | None]:
    """Yield scores as numbers, None, or a word for what is not finite. Raises TypeError for anything else."""
    found = found.tolist() if hasattr(found, "tolist") else found
    for value in found if isinstance(found, list | tuple) else [found]:
        value = value.item() if hasattr(value, "item") else value
        if value is not None and not isinstance(value, numbers.Real):
            raise TypeError(f"returned {type(value).__name__} {str(value)[:60]!r}, expected numbers or None")
        yield value if value is None else float(value) if math.isfinite(value) else str(float(value))


def _detail(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _place(error: BaseException) -> str:
    """Return file and line of the innermost frame that is not in this file."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__ and "importlib" not in f.filename
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}, line {error.lineno}"
    return f"{os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}" if frames else ""


def _end_with(parent: int) -> None:
    """End the process and all that it started once its parent is gone, whatever the function does."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
