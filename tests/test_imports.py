"""Who may import whom: walks the import statements of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EVERYWHERE = {"records", "transfer", "errors", "durable", "files", "distributed", "strict_json", "source_code"}
ALLOWED = {
    "records": set(),
    "transfer": set(),
    "errors": set(),
    "durable": set(),
    "files": set(),
    "distributed": set(),
    "strict_json": set(),
    "source_code": set(),
    "workers": set(),
    "scoring": set(),
    "objectives": set(),
    "activations": set(),
    "encoding": set(),
    "world": set(),
    "data": {"encoding", "world"},
    "models": {"scoring", "activations"},
    "checks": {"models", "scoring"},
    "sizing": {"models", "scoring"},
    "training": {"objectives", "scoring", "activations", "models", "checks"},
    "modules": {"objectives", "scoring", "activations", "models", "checks", "training"},
    "sampling": {"models", "scoring", "checks", "workers"},
    "rewards": {"models", "scoring", "encoding", "world", "checks", "workers"},
    "judges": {"rewards", "sampling", "models", "scoring", "encoding", "world", "checks"},
    "rounds": {"data", "encoding", "models", "rewards", "judges", "sampling"},
    "evaluation": {
        *(
            "activations",
            "checks",
            "encoding",
            "judges",
            "models",
            "rewards",
            "sampling",
            "scoring",
            "workers",
            "world",
        ),
    },
    "annotation": {"data", "evaluation"},
    "studies": {"evaluation"},
    "callbacks": {"data", "sampling", "activations", "rewards", "judges", "evaluation", "rounds", "world"},
    "cli": {
        *(
            "activations",
            "annotation",
            "checks",
            "data",
            "encoding",
            "evaluation",
            "models",
            "modules",
            "objectives",
            "rewards",
            "judges",
            "training",
            "rounds",
            "sizing",
            "studies",
        ),
        "sampling",
        "scoring",
        "workers",
        "world",
    },
}
TORCH_ONLY = {"scoring", "objectives", "records"}
LIGHT = {"torch", "numpy", "jaxtyping", "align", "__future__"}
FILES = sorted([*ROOT.glob("align/**/*.py"), *ROOT.glob("callbacks/**/*.py")])


def part(module: str) -> str:
    return module.split(".")[1]


def own_part(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return names[0] if names[0] == "callbacks" else names[1]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_allowed_parts_are_imported(path: Path) -> None:
    own = own_part(path)
    if own in ("__init__", "__main__"):
        return
    for module in imports(path):
        if module.startswith("align."):
            assert part(module) in ALLOWED[own] | EVERYWHERE | {own}, f"{own} must not import {module}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if own_part(p) in TORCH_ONLY], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_core_needs_torch_only(path: Path) -> None:
    import sys

    for module in imports(path):
        top = module.split(".")[0]
        assert top in LIGHT or top in sys.stdlib_module_names, f"{path} imports {module}"


def test_the_rule_would_catch_an_intruder(tmp_path: Path) -> None:
    intruder = tmp_path / "x.py"
    intruder.write_text("from align.modules.dpo import DPOModule\nimport align.callbacks.hf_export\n")
    assert [part(m) for m in imports(intruder)] == ["modules", "callbacks"]
    assert "modules" not in ALLOWED["data"]
    assert all("callbacks" not in allowed for allowed in ALLOWED.values())


def test_importing_has_no_effects() -> None:
    """No seed, thread count, environment variable or logger is touched by importing the packages."""
    import subprocess
    import sys

    code = (
        "import os, torch, transformers, lightning, peft, datasets\n"
        "before = (dict(os.environ), torch.initial_seed(), torch.get_num_threads(), torch.random.get_rng_state().sum())\n"
        "import align.modules.dpo, align.modules.sft, align.modules.reward_model, align.data.mixture, align.callbacks.hf_export\n"
        "import align.data.hh_rlhf, align.data.helpsteer, align.data.ultrafeedback, align.callbacks.samples\n"
        "after = (dict(os.environ), torch.initial_seed(), torch.get_num_threads(), torch.random.get_rng_state().sum())\n"
        "assert before == after\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/**/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_experiments_take_nothing_from_the_command_line_but_the_program(path: Path) -> None:
    """What an experiment measures belongs below `align.cli`; `main` runs the program."""
    assert {module for module in imports(path) if module.startswith("align.cli")} <= {"align.cli.main"}
