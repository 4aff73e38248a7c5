"""RAHF's stages in a row, on two processes, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.errors import ConfigError, ModelError
from align.models.backbone import Backbone, LoRA
from align.modules.hir import HIRModule
from align.modules.preferred_dispreferred import PreferredDispreferredModule
from align.modules.rahf import RAHFDualModule, RAHFSingleModule
from align.records import Instructions
from align.training.optimizer import Optimizer
from tests.modules.aligned import TEXTS, adapters, dual, single, tiny
from tests.modules.fitting import fit, pairs_data
from tests.test_configs import scalars
from tests.tiny import write_pairs

FAST = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny(tmp_path)


ASKED = ["--model.instructions.positive", TEXTS.positive, "--model.instructions.negative", TEXTS.negative]
LAYERS = ["--model.reading.target_layers", "[1,2]", "--model.backbone.lora.r", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp_cpu", "fsdp2"])
@pytest.mark.parametrize("method", ["rahf_dual", "rahf_dual_stage1", "hir", "rahf_single"])
def test_two_processes(method: str, strategy: str, base: Path, tmp_path: Path, pairs_file: Path) -> None:
    """Losses are those of one process, without errors about unused parameters; the export is whole."""
    configs = Path(__file__).parents[2] / "configs"
    own: dict[str, list[str]] = {
        "rahf_dual": [*LAYERS, "--model.stage1", str(adapters(base, tmp_path / "two", ["good", "bad"]))],
        "rahf_dual_stage1": [],
        "hir": ASKED,
        "rahf_single": [*LAYERS, *ASKED, "--model.stage1", str(adapters(base, tmp_path / "one", ["."], 0.1, TEXTS))],
    }
    common = [
        *("fit", "-c", str(configs / "method" / f"{method}.yaml"), "--data", "PreferenceFileDataModule"),
        *("--data.path", str(pairs_file), "--data.batching.groups", "8"),
        *("--model.backbone.path", str(base), "--model.optimizer.learning_rate", "1e-2", *own[method]),
        *("--trainer.log_every_n_steps", "1", "--trainer.limit_train_batches"),
    ]
    cpu = ["-c", str(configs / "trainer" / "cpu.yaml")]
    two = [
        "-c",
        str(configs / "trainer" / f"{strategy}.yaml"),
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        "2",
    ]
    assert main([*common, "3", *cpu, "--trainer.default_root_dir", str(tmp_path / "run1")]) == 0
    command = [sys.executable, "-m", "align", *common, "3", *two, "--trainer.default_root_dir", str(tmp_path / "run2")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two_processes = (scalars(tmp_path / run, "train/loss") for run in ("run1", "run2"))
    assert two_processes == pytest.approx(one, rel=1e-3)
    folders = [tmp_path / run / "model" for run in ("run1", "run2")]
    found = sorted(path.relative_to(folders[0]) for path in folders[0].rglob("*.safetensors"))
    assert found
    for name in found:
        weights = [load_file(folder / name) for folder in folders]
        assert weights[0].keys() == weights[1].keys()
        for key, value in weights[0].items():
            torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-3)


def test_stage_one_and_two_in_a_row(base: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl", 24)
    first = PreferredDispreferredModule(Backbone(str(base), lora=LoRA(r=2)), optimizer=FAST)
    log = fit(first, pairs_data(pairs), max_epochs=2)
    assert log.series("train/nll/good")[-1] < log.series("train/nll/good")[0]
    assert log.series("train/nll/bad")[-1] < log.series("train/nll/bad")[0]
    first.export(tmp_path / "stage1")
    log = fit(dual(base, tmp_path / "stage1", optimizer=FAST), pairs_data(pairs))
    assert log.series("train/loss")[0] > 0


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ("missing", "no adapter in .*bad"),
        ("same", "good and bad are the same adapter"),
        ("changed", "adapter 'bad' is not the one stage.json tells of"),
        ("null", "model.stage1 is null: RAHFDualModule needs"),
    ],
)
def test_a_stage_that_is_not_right_is_refused(break_it: str, message: str, base: Path, tmp_path: Path) -> None:
    import shutil

    stage1: Path | None = adapters(base, tmp_path / "s", ["good", "bad"])
    assert stage1 is not None
    if break_it in ("missing", "same"):
        shutil.rmtree(stage1 / "bad")
    if break_it == "same":
        shutil.copytree(stage1 / "good", stage1 / "bad")
    if break_it == "changed":
        adapters(base, tmp_path / "other", ["bad", "good"], size=0.2)
        shutil.rmtree(stage1 / "bad")
        shutil.copytree(tmp_path / "other" / "bad", stage1 / "bad")
    with pytest.raises((ConfigError, ModelError), match=message):
        RAHFDualModule(Backbone(str(base)), stage1=None if break_it == "null" else str(stage1)).build_model()


def test_other_mistakes_are_told(base: Path, tmp_path: Path) -> None:
    stage1 = adapters(base, tmp_path / "s", ["."], instructions=TEXTS)
    with pytest.raises(ConfigError, match=r"instructions.positive was 'be good' in the first stage"):
        single(base, stage1, instructions=Instructions("be nice", "be very bad"))
    with pytest.raises(ConfigError, match=r"stage1 is null and backbone.path holds no model of a first stage"):
        single(base, None)
    with pytest.raises(ConfigError, match="stage1 is none"):
        RAHFSingleModule(Backbone(str(base)), stage1="none")
    other = tiny(tmp_path / "other")
    changed = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        next(changed.parameters()).add_(1)
    changed.save_pretrained(other)
    with pytest.raises(ConfigError, match=r"trained on another base than backbone.path"):
        single(other, stage1)
    with pytest.raises(ConfigError, match="dropout"):
        single(base, stage1, backbone=Backbone(str(base), dropout=True))
    with pytest.raises(ConfigError, match="target_layers has 9"):
        single(base, stage1, [9])
    with pytest.raises(ConfigError, match="gradient_checkpointing computes again"):
        PreferredDispreferredModule(Backbone(str(base), gradient_checkpointing=True))
    with pytest.raises(ConfigError, match="init_tokens changes the embeddings"):
        HIRModule(Backbone(str(base), lora=LoRA()), init_tokens=["x"])
