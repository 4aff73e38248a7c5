"""`--check off`, and where the outcome of the self-check is shown: card, report, `align check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.check import _marked
from align.cli.main import main
from align.evaluation.run_reader import read_run
from tests.test_configs import CPU, METHOD


@pytest.mark.parametrize(
    ("words", "expected"), [([], "packed rows, values off by "), (["--check", "off"], "switched off")]
)
def test_card_and_report_say_what_was_found(
    words: list[str], expected: str, pairs_file: Path, model_folder: Path, tmp_path: Path
) -> None:
    source = ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)]
    place = ["--model.backbone.path", str(model_folder), "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["fit", "-c", METHOD, "-c", CPU, *source, *place, *words]) == 0
    run = read_run(tmp_path / "run")
    assert run is not None
    assert run.check.startswith(expected)
    assert run.config["model"]["init_args"]["backbone"]["check"] is (not words)


def test_doctor_shows_it(pairs_file: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)]
    assert main(["check", "-c", METHOD, "-c", CPU, *source, "--model.backbone.path", str(model_folder)]) == 0
    text = capsys.readouterr().out
    assert "self-check: packed rows, values off by " in text
    assert "sampling: align's own engine" in text


@pytest.mark.parametrize("words", [["-c", "grpo", "-c", "online"], ["-c", "ppo", "-c", "online_ppo"]])
def test_online_methods_have_no_loss_before_a_round(
    words: list[str], tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asks.jsonl").write_text("".join(f'{{"prompt": "{n} + {n}?"}}\n' for n in range(4)))
    source = ["--data", "PreferenceFileDataModule", "--data.path", str(tmp_path / "asks.jsonl")]
    model = ["--model.backbone.path", str(model_folder)]
    assert main(["check", *words, "-c", CPU, *source, *model]) == 0
    assert "no loss before the first round" in capsys.readouterr().out
    assert main(["check", *words[:2], "-c", CPU, *source, *model]) == 2
    assert "trains on its own samples: add -c configs/callbacks/online.yaml" in capsys.readouterr().err


def test_a_reference_on_disk_is_not_looked_up_before_it_is_there(
    pairs_file: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)]
    assert main(["check", "-c", "dpo_cached", "-c", CPU, *source, "--model.backbone.path", str(model_folder)]) == 0
    assert "no loss before the run starts" in capsys.readouterr().out


def test_long_examples_are_shown_at_their_ends() -> None:
    tokens = [*map(str, range(200)), "said", "by", "others"]
    shown = _marked(tokens, [1.0] * 200 + [0.0] * 3)
    assert shown.startswith("0·1·2·")
    assert "·29· … 140 more … ·170·" in shown
    assert shown.endswith("·199 ⟦saidbyothers⟧")
    assert _marked(tokens[:90], [1.0] * 90) == "·".join(tokens[:90])
