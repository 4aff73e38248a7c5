"""An edited file is seen through what imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from align.rewards.function_rewards import FunctionRewards
from align.source_code import own_files

FILES = {
    "reward.py": "import json, math\nimport torch\nfrom words import GOOD\nfrom parts.rules import rule\n"
    "def score(completion):\n    from late import bonus\n    return float(completion in GOOD) + rule() + bonus\n",
    "words.py": "import reward\nGOOD = ['a']\n",
    "late.py": "bonus = 0.0\n",
    "unused.py": "x = 1\n",
    "parts/__init__.py": "",
    "parts/rules.py": "from . import numbers_\nfrom .deep.inner import ONE\nfrom ..words import GOOD\n"
    "def rule():\n    return numbers_.ZERO\n",
    "parts/numbers_.py": "ZERO = 0.0\n",
    "parts/deep/inner.py": "ONE = 1\n",
    "parts/other.py": "",
    "torch/__init__.py": "",  # the installed one goes before what lies beside the file
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_file_is_what_it_imports_of_the_user_s_own(written: Path) -> None:
    found = [str(path.relative_to(written)) for path in own_files(written / "reward.py")]
    assert found[0] == "reward.py"
    assert found[1:] == [
        *("late.py", "parts/__init__.py", "parts/deep/inner.py", "parts/numbers_.py", "parts/rules.py", "words.py")
    ]


def test_what_python_imports_is_found(written: Path) -> None:
    """Against Python itself: the modules under the folder that running the function has loaded."""
    (written / "parts/rules.py").write_text(FILES["parts/rules.py"].replace("from ..words import GOOD\n", ""))
    run = (
        "import sys, reward; reward.score('a')\n"
        "print(*(m.__file__ for m in list(sys.modules.values()) if (getattr(m, '__file__', None) or '').startswith(sys.argv[1])))"
    )
    (written / "reward.py").write_text(FILES["reward.py"].replace("import torch\n", ""))
    told = subprocess.run(
        [sys.executable, "-c", run, str(written)], cwd=written, capture_output=True, text=True, check=True
    )
    assert sorted(told.stdout.split()) == sorted(map(str, own_files(written / "reward.py")))


def test_scores_are_known_by_the_imported_files_too(written: Path) -> None:
    seen = []
    for name in ("words.py", "parts/numbers_.py", "unused.py", "torch/__init__.py"):
        before = FunctionRewards(f"{written}/reward.py:score").identity
        (written / name).write_text(FILES[name] + "# edited\n")
        seen.append(FunctionRewards(f"{written}/reward.py:score").identity != before)
    assert seen == [True, True, False, False]


def test_a_file_that_is_no_python_is_itself(written: Path) -> None:
    (written / "words.py").write_text("def (")
    assert written / "words.py" in own_files(written / "reward.py")
