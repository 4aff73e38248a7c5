"""Runs the program, or tests, on the device of `card`:

    python -m tests.waits.on_card LIBRARY align fit ...
    python -m tests.waits.on_card LIBRARY pytest tests/gpu

LIBRARY is the compiled guard of `fake_device`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.waits.fake_device import load

load(Path(sys.argv[1]))
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # modes of torch hold in one thread

import lightning  # noqa: E402, F401  # looks at the device while it is imported
import peft  # noqa: E402, F401
import pytest  # noqa: E402
import transformers  # noqa: E402, F401

from align.cli.main import main  # noqa: E402
from tests.waits.card import card  # noqa: E402


def run(program: str, words: list[str]) -> int:
    with card():
        return main(words) if program == "align" else int(pytest.main([*words, "-n", "0", "-p", "no:cacheprovider"]))


if __name__ == "__main__":
    code = run(sys.argv[2], sys.argv[3:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # torch would look for its device once more
