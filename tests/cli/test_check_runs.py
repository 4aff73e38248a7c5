"""`align check`: what it finds before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.cli.main import main
from tests.cli.test_commands import fit
from tests.test_configs import CPU, METHOD


class TestCheck:
    def arguments(self, pairs: Path, model: Path) -> list[str]:
        return [
            *("check", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs)),
            *("--model.backbone.path", str(model)),
        ]

    def test_a_sound_set_up(self, pairs_file: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(self.arguments(pairs_file, model_folder)) == 0
        text = capsys.readouterr().out
        for words in (
            "torch 2.",
            "pairs/train: ",
            "rank 0, ",
            "</s>",
            "float32, train mode",
            "memory about",
            "loss of the first",
            "0.693147",
        ):
            assert words in text
        assert text.count("prompt, ") == 3
        assert text.rstrip().endswith("no fault found")
        assert not list(Path("runs").glob("dpo-*"))

    def test_a_used_run_folder_can_be_examined(self, pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
        assert fit(pairs_file, model_folder, tmp_path / "run") == 0
        assert main(["doctor", "-c", str(tmp_path / "run" / "config.yaml")]) == 0

    def test_two_bos_tokens_fail(
        self, pairs_file: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        template = tmp_path / "double.jinja"
        template.write_text("{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}")
        assert main([*self.arguments(pairs_file, model_folder), "--model.backbone.chat_template", str(template)]) == 2
        assert "two BOS tokens" in capsys.readouterr().err

    def test_a_broken_model_fails(
        self, pairs_file: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(model_folder / "model.safetensors")
        weights["model.norm.weight"].fill_(torch.nan)
        save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
        assert main(self.arguments(pairs_file, model_folder)) == 2
        assert "nan" in capsys.readouterr().err
