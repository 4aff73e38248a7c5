"""Whole runs, and the tests of a GPU, on a device that computes on the CPU and refuses tensors of two devices."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modules.aligned import tiny
from tests.tiny import save_tiny, write_pairs
from tests.waits.fake_device import compile_guard
from tests.waits.test_waits import Guarded

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="the device is compiled by g++")]
LORA = ["--model.backbone.lora.r", "4"]
ENTROPIES = ["--model.objective.top_entropy_quantile", "0.3", "--model.objective.entropy_weight", "0.01"]
REFILLS = ["--trainer.callbacks.selection.skip_equal", "true", "--trainer.callbacks.refills", "3"]
ROUNDS = {
    "grpo": ["grpo", "online", *ENTROPIES, "--model.objective.beta", "0.04", *LORA],
    "dapo": ["dapo", "online", *REFILLS],
    "ppo": ["ppo", "online_ppo"],
    "ppo_adapter": ["ppo", "online_ppo", *LORA],
    "ppo_trunk": ["ppo", "online_ppo", "--model.value", "TrunkValue"],
    "nash_md": ["nash_md", "nash_md_rounds"],
    "xpo": ["xpo", "xpo_rounds"],
    "online_dpo": ["dpo", "online_dpo"],
    "pilaf": ["dpo", "pilaf"],
    "inpo": ["inpo", "inpo_rounds"],
    "moving": ["tr_dpo", "online_dpo", "--model.reference.every_n_steps", "1", *LORA],
}
SMALL = [
    *("--data.batching.groups", "8", "--data.preferences.size", "64", "--trainer.max_epochs", "2"),
    *("--trainer.check_val_every_n_epoch", "1", "--trainer.limit_val_batches", "2"),
    *("--trainer.callbacks.generation.max_new_tokens", "8", "--trainer.callbacks.prompts", "8"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    folder = tmp_path_factory.mktemp("card")
    return Guarded(compile_guard(folder), tiny(folder))


def on_card(guarded: Guarded, *words: str) -> str:
    """Run the program or tests in a process of their own, and return what they say."""
    command = [sys.executable, "-m", "tests.waits.on_card", str(guarded.library), *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout[-1500:] + ran.stderr[-3000:]
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("name", sorted(ROUNDS))
def test_rounds(name: str, guarded: Guarded, tmp_path: Path) -> None:
    method, rounds, *options = ROUNDS[name]
    words = ["-c", method, "-c", rounds, "-c", "synthetic", *SMALL, "--trainer.default_root_dir", str(tmp_path / "run")]
    told = on_card(guarded, "align", "fit", *words, "--model.backbone.path", str(guarded.folder), *options)
    assert "GPU available: True (cuda), used: True" in told
    assert "do not agree" not in told  # a layout that does not run would be left out with this
    assert (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("file", ["test_layouts.py", "test_methods.py", "test_runs.py"])
def test_the_tests_of_a_gpu(file: str, guarded: Guarded) -> None:
    told = on_card(guarded, "pytest", f"tests/gpu/{file}", "-m", "gpu", "-q")
    assert " skipped" not in told


def test_what_flex_attention_does_not_serve_goes_part_by_part(guarded: Guarded, tmp_path: Path) -> None:
    """Windows and soft caps: the card has no such compiler, which is told in one line, and the run goes on."""
    base = save_tiny(tmp_path / "base", "gemma2", sliding_window=8, head_dim=16)
    rows = write_pairs(tmp_path / "pairs.jsonl", 12)
    words = ["-c", "dpo", "--data", "PreferenceFileDataModule", "--data.path", str(rows), "--data.batching.groups", "4"]
    words += ["--trainer.max_steps", "2", "--trainer.callbacks", "null", "--trainer.default_root_dir", str(tmp_path)]
    told = on_card(guarded, "align", "fit", *words, "--model.backbone.path", str(base))
    assert told.count("attention over packed rows runs part by part") == 1
    assert "FlexAttention does not serve heads of 16 in torch.bfloat16 on cuda:0" in told
    assert "do not agree" not in told
