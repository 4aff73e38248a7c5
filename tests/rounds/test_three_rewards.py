"""DPA over three rewards, from training to hypervolumes, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main
from tests.test_configs import CPU, ROOT
from tests.tiny import save_reward_model, save_tiny

NAMES = ("helpfulness", "verbosity", "harm")
SHORT = ("--generation.max_new_tokens", "8")


@pytest.mark.slow
def test_from_training_to_hypervolumes(pairs_file: Path, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", max_position_embeddings=4096)
    scorer = ("RewardFolder", str(save_reward_model(tmp_path / "rm", 3, NAMES)))
    words = ["fit", "-c", str(ROOT / "configs" / "method" / "dpa.yaml"), "-c", CPU]
    words += ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file), "--model.backbone.path", str(model)]
    words += ["--model.conditioning.attributes", f"[{','.join(NAMES)}]"]
    words += ["--model.conditioning.cap", "{axis: [2, 2, -1], degrees: 30}", "--trainer.max_epochs", "4"]
    words += ["--trainer.callbacks.scorer", scorer[0], "--trainer.callbacks.scorer.path", scorer[1]]
    words += ["--trainer.callbacks.generation", "{max_new_tokens: 16, num_samples: 4}"]
    assert main([*words, "--trainer.default_root_dir", "runs/dpa"]) == 0
    (row, *_) = [json.loads(line) for line in Path("runs/dpa/rounds/round-0001.jsonl").read_text().splitlines()]
    directions = [row["scores"][0][row["attributes"].index(f"v {name}")] for name in NAMES]
    assert sum(value**2 for value in directions) == pytest.approx(1)
    assert directions[0] * 2 / 3 + directions[1] * 2 / 3 - directions[2] / 3 >= 0.866 - 1e-3  # inside the cap
    measured = ["--prompts", str(pairs_file), "--scorer", scorer[0], "--scorer.path", scorer[1], *SHORT]
    assert (
        main(["front", "compare", "--models", "[runs/dpa/model,runs/dpa/rounds/model-0000]", *measured, "--out", "p"])
        == 0
    )
    found = json.loads(Path("p/pareto.json").read_text())
    assert "hypervolume" in json.dumps(found)
    assert found["rewards"] == ["helpfulness", "verbosity", "-harm"]  # less of what the axis weighs below 0
