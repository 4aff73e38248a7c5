"""Studies of small Python programs, which write what they are told and what they read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from tests.test_configs import ROOT

PROGRAM = """
import json, sys
from pathlib import Path
out, value, *others = sys.argv[1:]
with open("log.txt", "a") as log:
    log.write(out + chr(10))
if value == "fail":
    sys.exit("it went wrong")
Path(out).mkdir(parents=True, exist_ok=True)
read = [json.loads(Path(other, "results.json").read_text())["value"] for other in others]
Path(out, "results.json").write_text(json.dumps({"value": float(value) + sum(read), "none": None}))
"""


def program(study: str, name: str) -> ModuleType:
    """Return a program of a shipped study as a module."""
    spec = importlib.util.spec_from_file_location(f"{study}_{name}", ROOT / "experiments" / study / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_study(folder: Path, steps: dict[str, Any], **more: Any) -> Path:
    """Write a study and the program of its steps."""
    (folder / "program.py").write_text(PROGRAM)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"out": "out", "steps": steps, **more}, sort_keys=False))
    return path


def step(value: Any, *others: str) -> str:
    return " ".join(["python ${study}/program.py ${here}", str(value), *(f"${{{other}}}" for other in others)])


def done(folder: Path) -> list[str]:
    """Return the steps that have been done, in their order, and forget them."""
    log = folder / "log.txt"
    found = [Path(line).name for line in log.read_text().split()] if log.exists() else []
    log.unlink(missing_ok=True)
    return found
