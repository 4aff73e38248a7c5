"""What `align VERB --help` shows, kept as files of the package, so that nothing heavy is imported to show it.

The text is the parser's own. `python -m align.cli.help_pages` writes the files anew; a test compares them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from align.cli.verbs import commands, module_of

FOLDER = Path(__file__).parent / "help"
MADE_BY = FOLDER / "made_by.txt"
_DEFAULTS = re.compile(r"default config file locations:.*?defaults\.yaml\n(?=\n)", re.DOTALL)


def help_page(words: Sequence[str]) -> str | None:
    """Return the page of a command that asks for help and nothing else; None for others, or under other parsers."""
    path = FOLDER / f"{'.'.join(words[:-1])}.txt"
    if words[-1] not in ("-h", "--help") or tuple(words[:-1]) not in commands() or not path.is_file():
        return None
    return path.read_text(encoding="utf-8") if MADE_BY.read_text(encoding="utf-8") == parsers() else None


def parsers() -> str:
    """Return the versions of the libraries that make the text."""
    return "".join(f"{name} {version(name)}\n" for name in ("jsonargparse", "lightning"))


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every file as the parsers make it now; everything is imported first, so that all classes are known."""
    from align.cli.main import run_verb

    for command in commands():
        importlib.import_module(module_of(command))
    yield MADE_BY, parsers()
    for command in commands():
        yield FOLDER / f"{'.'.join(command)}.txt", _told(run_verb, [*command, "--help"])


def _told(run: Callable[[list[str]], int], words: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run(words)
    return _DEFAULTS.sub("defaults below are those of align/cli/defaults.yaml\n", out.getvalue())


def main() -> int:
    """Write the pages, or with `--check` tell which are not as the parsers make them."""
    os.environ["COLUMNS"] = "100"
    made = dict(pages())
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    stale += [path for path in FOLDER.glob("*.txt") if path not in made]
    if "--check" not in sys.argv:
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob("*.txt"):
            path.unlink()
        for path, text in made.items():
            path.write_text(text, encoding="utf-8")
        return 0
    print("\n".join(path.name for path in stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
