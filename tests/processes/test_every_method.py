"""Every shipped method on two processes, in micro-batches of other contents on each, trains and measures as on one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.processes.runs import STRATEGIES, TRAINER, Pair
from tests.processes.test_equal import DOUBLE
from tests.resume.runs import Run
from tests.test_configs import CONFIGS, CPU, FIRST_STAGE, IN_ROUNDS, filled_in, words
from tests.tiny import WORDS

OF_MICRO_BATCHES = ("pro_released",)
"""Methods that are defined on a micro-batch: `eos: reference_code` scores the end in all rows but the longest."""
METHODS = [path for path in CONFIGS if path.parent.name == "method" and path.stem not in OF_MICRO_BATCHES]
CPUS = ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]
CUT = ["--data.batching.tokens", "260"]
WHOLE = ["--data.batching.tokens", "1000000"]
OF_TIME = ("tokens_per_second", "seconds", "memory", "padding")
"""What is measured of the machine, or of how a step is cut."""


def text(draw: random.Random, most: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(1, most)))


def scored_lists(path: Path) -> Path:
    """Weighted lists of two to five responses, tied in part; two have no order at all."""
    draw, rows = random.Random(5), []
    for n in range(18):
        size = draw.randint(2, 5)
        scores = [0.5] * size if n in (3, 7) else [draw.randint(1, 9) / 10 for _ in range(size)]
        completions = [f"{text(draw, 9)} {place}" for place in range(size)]
        row = {"prompt": f"{text(draw, 9)} {n}?", "completions": completions, "scores": scores}
        rows.append({**row, "weight": draw.choice([0.5, 1, 2])})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ratings(path: Path) -> Path:
    """Weighted responses with two ratings, of which many have one alone."""
    draw, rows = random.Random(6), []
    for n in range(18):
        given = {"helpfulness": n % 5, "verbosity": draw.randint(0, 4) if n % 3 == 0 else None}
        given["weight"] = draw.choice([0.5, 1, 2])
        rows.append({"prompt": f"{text(draw, 9)} {n}?", "response": text(draw, 12), **given})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def metrics(run: Run) -> dict[int, dict[str, float]]:
    """Return what was logged at every step, but for times and memory."""
    found: dict[int, dict[str, float]] = {}
    for line in (run.root / "metrics.jsonl").read_text().splitlines():
        row: dict[str, Any] = json.loads(line)
        own = {name: value for name, value in row.items() if name.startswith(("train/", "val/"))}
        kept = {name: value for name, value in own.items() if not any(word in name for word in OF_TIME)}
        found.setdefault(row["step"], {}).update(kept)
    return found


def models(run: Run) -> dict[str, torch.Tensor]:
    """Return the tensors of all folders that a run has written."""
    files = sorted((run.root / "model").rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": value for file in files for name, value in load_file(file).items()}


def assert_same(one: Run, two: Run) -> None:
    expected, found = metrics(one), metrics(two)
    assert {step: sorted(row) for step, row in found.items()} == {step: sorted(row) for step, row in expected.items()}
    assert len(expected) > 1
    different = [
        f"{name} of step {step}: {value} of one process, {found[step][name]} of two"
        for step, row in expected.items()
        for name, value in row.items()
        if found[step][name] != pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True)
    ]
    assert not different
    of_one, of_two = models(one), models(two)
    assert of_one.keys() == of_two.keys()
    for name, value in of_one.items():
        torch.testing.assert_close(of_two[name], value, rtol=1e-6, atol=1e-8, msg=name)


NO_DROPOUT = [
    *("--model.backbone.lora.r", "8", "--model.backbone.lora.lora_dropout", "0"),
    *("--model.backbone.lora.target_modules", "[q_proj, v_proj]"),
]
"""Adapters of RAHF, whose usual ones have dropout: what that draws depends on the process."""
SHARDED = (
    *("kto", "bco", "aot", "dro", "listmle", "tr_dpo", "reward_model_multi", "hir"),
    *("rahf_single", "rahf_dual", "rahf_dual_stage1"),
)
"""Methods that are sharded too; test_equal.py has others."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "strategy"),
    [(path, strategy) for path in METHODS for strategy in STRATEGIES if strategy == "ddp" or path.stem in SHARDED],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_a_method_on_two_processes_is_that_on_one(
    path: Path, strategy: str, tmp_path: Path, model_folder: Path
) -> None:
    data = (ratings if path.stem == "reward_model_multi" else scored_lists)(tmp_path / "data.jsonl")
    more = [*words(path, str(data), str(model_folder)), *filled_in(path, tmp_path, model_folder), *DOUBLE]
    more += ["--model.optimizer.learning_rate", "1e-3", "--data.batching.groups", "5"]
    if path.stem in IN_ROUNDS:
        more += ["--trainer.callbacks.prompts", "10", "--trainer.callbacks.epochs", "2"]
    else:
        more += ["--data.splits.val_fraction", "0.3"]
    if path.stem in (*FIRST_STAGE, "lorra"):
        more += NO_DROPOUT
    if path.stem == "reward_model_multi":
        more += ["--model.objective.scales", '{"helpfulness": [0, 4], "verbosity": [0, 4]}']
    one = Run(tmp_path / "one", [*more, "-c", CPU, *WHOLE])
    assert one() == 0, one.log[-3000:]
    two = Pair(tmp_path / "two", [*more, "-c", str(TRAINER / STRATEGIES[strategy]), *CPUS, *CUT])
    assert two() == 0, two.log[-3000:]
    assert_same(one, two)
    if (one.root / "alignment.json").exists():
        pictures = [json.loads((run.root / "alignment.json").read_text()) for run in (one, two)]
        torch.testing.assert_close(*(torch.tensor(picture["left"]) for picture in pictures), rtol=1e-5, atol=1e-6)
