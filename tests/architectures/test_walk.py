"""What a user does with a folder of an unusual kind: trains it by two methods and samples from what came out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from align.cli.main import main
from align.evaluation.run_reader import read_series
from tests.architectures.shrunk import Variant, random_model
from tests.test_configs import CPU, ROOT
from tests.tiny import tiny_tokenizer

TYPES: dict[str, dict[str, Any]] = {
    "qwen3_next": {},
    "lfm2": {},
    "deepseek_v3": {},
    "mamba": {},
    "jamba": {},
    "mixtral": {"router_jitter_noise": 0.1},
    "qwen3_moe": {},
    "gemma2": {},
    "gemma3": {},
}
"""Hybrids, a latent attention, a recurrent model, mixtures of experts, soft caps, and a model of pictures and text."""
HEADLESS = {"mamba"}
"""Those that transformers has no sequence classifier of, and none can be made of its generic one."""


@pytest.fixture(params=TYPES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
    random_model(Variant(kind), **sizes, **TYPES[kind]).save_pretrained(tmp_path / kind)
    tokenizer.save_pretrained(tmp_path / kind)
    return tmp_path / kind


def fit(method: str, folder: Path, pairs: Path, run: Path) -> int:
    return main(
        [
            *("fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml"), "-c", CPU),
            *("--data", "PreferenceFileDataModule", "--data.path", str(pairs)),
            *("--data.batching.groups", "16", "--model.backbone.path", str(folder), "--trainer.max_steps", "2"),
            *("--trainer.default_root_dir", str(run)),
        ]
    )


@pytest.mark.slow
def test_dpo_starts_at_log_2_and_samples(kind: str, folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    assert fit("dpo", folder, pairs_file, tmp_path / "run") == 0
    losses = read_series(tmp_path / "run")["train/loss"].values
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert len(losses) == 2
    assert losses[1] != losses[0]
    trained = tmp_path / "run" / "model"
    assert " against plain forward passes" in (trained / "README.md").read_text()
    assert AutoConfig.from_pretrained(trained).to_dict()["model_type"] == kind
    assert AutoModelForCausalLM.from_pretrained(trained).config.model_type == kind
    draw = ["generate", "--model.path", str(trained), "--prompt", "the cat", "--generation.max_new_tokens", "8"]
    assert main([*draw, "--generation.temperature", "0", "--out", str(tmp_path / "out.jsonl")]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["tokens"] > 0


@pytest.mark.slow
def test_a_reward_model_trains_or_is_refused_in_one_line(
    kind: str, folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = fit("reward_model", folder, pairs_file, tmp_path / "run")
    if kind not in HEADLESS:
        assert code == 0
        assert all(math.isfinite(loss) for loss in read_series(tmp_path / "run")["train/loss"].values)
        return
    error = capsys.readouterr().err
    assert code == 2, error[-2000:]
    assert "Traceback" not in error
    line = next(line for line in error.splitlines() if line.startswith("align "))
    assert f"transformers has no sequence classifier of model type {kind}" in line
