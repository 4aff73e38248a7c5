"""`align run`: the stages of a method in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from align.cli import run
from align.cli.main import main
from align.cli.run import parse
from align.cli.run_folder import FINISHED
from align.errors import ConfigError
from tests.tiny import save_tiny

METHODS = Path(__file__).parents[2] / "configs" / "method"


def test_words_go_to_their_stage() -> None:
    found = parse(["-s", "a.yaml", "--out", "o", "-s", "b.yaml", "--data", "X", "--2.model.x=1", "-c", "t.yaml", "--y"])
    assert found.files == ["a.yaml", "b.yaml"]
    assert found.common == ["--data", "X", "-c", "t.yaml", "--y"]
    assert found.own == {2: ["--model.x", "1"]}
    with pytest.raises(ConfigError, match=r"--3.x: there are stages 1..2"):
        parse(["-s", "a", "-s", "b", "--out", "o", "--3.x", "1"])
    with pytest.raises(ConfigError, match="at least two stages"):
        parse(["-s", "a", "--out", "o"])


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What `align fit` is asked for; it writes a model folder, of adapters where the method of the file makes them."""
    commands: list[list[str]] = []

    def fit(words: list[str]) -> None:
        commands.append(words)
        root = Path(words[words.index("--trainer.default_root_dir") + 1])
        (root / "model" / "good").mkdir(parents=True)
        full = words[2].endswith(("stage1_paper.yaml", "sft.yaml"))
        (root / "model" / ("config.json" if full else "good/adapter_config.json")).touch()
        (root / FINISHED).touch()

    Path("t.yaml").write_text("trainer: {max_epochs: 1}\n")
    monkeypatch.setattr(run, "run_lightning", fit)
    return commands


def command(first: str, second: str, *more: str) -> list[str]:
    return ["run", "-s", str(METHODS / first), "-s", str(METHODS / second), "--out", "o", *more]


@pytest.mark.parametrize(
    ("first", "second", "option"),
    [
        ("rahf_dual_stage1.yaml", "rahf_dual.yaml", "--model.stage1"),
        ("rahf_single_stage1.yaml", "rahf_single.yaml", "--model.stage1"),
        ("rahf_single_stage1_paper.yaml", "rahf_single.yaml", "--model.backbone.path"),  # full weights
        ("sft.yaml", "dpo.yaml", "--model.backbone.path"),
        ("rahf_dual_stage1.yaml", "dpo.yaml", "--model.backbone.path"),
    ],
)
def test_a_stage_is_given_the_model_as_its_method_takes_it(
    first: str, second: str, option: str, ran: list[list[str]]
) -> None:
    assert main(command(first, second, "--model.backbone.path", "base")) == 0
    assert ran[1][3:] == [
        *("--model.backbone.path", "base", option, "o/1/model"),
        *("--trainer.default_root_dir", "o/2"),
    ]


def test_stages_are_named_as_shipped_configs_are(ran: list[list[str]]) -> None:
    words = ["run", "-s", "rahf_dual_stage1", "-s", "rahf_dual", "--out", "o", "--model.backbone.path", "base"]
    assert main(words) == 0
    assert ran[1][:3] == ["fit", "-c", "rahf_dual"]
    assert ran[1][5:7] == ["--model.stage1", "o/1/model"]


REACHES = [
    (("-c", "t.yaml"), (1, 1)),
    (("--seed_everything", "3"), (1, 1)),
    (("--trainer.callbacks+", "X"), (1, 1)),
    (("--1.model.optimizer.learning_rate", "1e-4"), (1, 0)),
    (("--2.model.backbone.path", "b"), (0, 1)),
    (("--2.config", "t.yaml"), (0, 1)),
    (("--1.model.stage1", "x"), (1, 0)),
    (("--2.push_to_hub", "me/x"), (0, 1)),
    (("--1.ckpt_path", "x"), (1, 0)),
]
REFUSED = [
    (("--trainer.default_root_dir", "x"), "--trainer.default_root_dir: belongs to --out"),
    (("--2.trainer.default_root_dir", "x"), "--2.trainer.default_root_dir: belongs to --out"),
    (("--model.stage1", "x"), "--model.stage1: is the model folder of the stage before"),
    (("--2.model.stage1", "x"), "--2.model.stage1: is the model folder of the stage before"),
    (("--ckpt_path", "x"), "--ckpt_path: would be that of every stage: write it with a number, as --2.ckpt_path"),
    (("--push_to_hub", "me/x"), "as --2.push_to_hub"),
    (("--public", "true"), "as --2.public"),
    (("--print_config",), "--print_config: is for one command"),
    (("--3.x", "1"), "--3.x: there are stages 1..2"),
]


@pytest.mark.parametrize(("words", "stages"), REACHES, ids=lambda value: value[0] if isinstance(value[0], str) else "")
def test_every_option_reaches_its_stage(words: tuple, stages: tuple, ran: list[list[str]]) -> None:
    assert main(command("rahf_dual_stage1.yaml", "rahf_dual.yaml", *words)) == 0
    plain = [re.sub(r"^--\d\.", "--", words[0]), *words[1:]]
    found = [any(call[n : n + len(plain)] == plain for n in range(3, len(call))) for call in ran]
    assert tuple(map(int, found)) == stages


@pytest.mark.parametrize(("words", "line"), REFUSED)
def test_or_is_refused(words: tuple, line: str, ran: list[list[str]], told: Callable[..., str]) -> None:
    assert line in told(*command("rahf_dual_stage1.yaml", "rahf_dual.yaml", *words))
    assert ran == []


def test_a_finished_stage_does_not_take_other_options(ran: list[list[str]], told: Callable[..., str]) -> None:
    words = command("rahf_dual_stage1.yaml", "rahf_dual.yaml")
    assert main(words) == main(words) == 0
    assert len(ran) == 2
    assert "stage 1 is finished in o/1 and was begun with other options (first: --x 2)" in told(*words, "--1.x", "2")
    assert len(ran) == 2


@pytest.mark.parametrize("option", ["--ckpt_path", "--push_to_hub=me/x", "--public"])
def test_doctor_refuses_what_belongs_to_training(option: str, told: Callable[..., str]) -> None:
    assert f"{option.partition('=')[0]}: nothing is trained or written here" in told("doctor", "-c", "x.yaml", option)


@pytest.mark.slow
def test_full_scit_in_one_command(model_folder: Path, pairs_file: Path) -> None:
    """The first stage of the paper trains all weights: its model is the base of the second."""
    save_tiny(model_folder, max_position_embeddings=2048)  # prompts under long instructions are not cut
    words = command("rahf_single_stage1_paper.yaml", "rahf_single.yaml", "--trainer.limit_train_batches", "2")
    words += ["--data", "PreferenceFileDataModule", "--data.path", str(pairs_file), "--trainer.accelerator", "cpu"]
    assert main([*words, "--model.backbone.path", str(model_folder)]) == 0
    assert Path("o/2/model/adapter_model.safetensors").exists()
    assert "path: o/1/model" in Path("o/2/config.yaml").read_text()


def test_dual_in_one_command(model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *("run", "-s", str(METHODS / "rahf_dual_stage1.yaml"), "-s", str(METHODS / "rahf_dual.yaml")),
        *("--out", "runs/dual", "--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)),
        *("--model.backbone.path", str(model_folder), "--trainer.limit_train_batches", "2"),
        *("--trainer.accelerator", "cpu", "--2.model.objective.alpha", "1.0"),
    ]
    assert main(words) == 0
    assert Path("runs/dual/2/model/adapter_model.safetensors").exists()
    assert "alpha: 1.0" in Path("runs/dual/2/config.yaml").read_text()
    written = json.loads(Path("runs/dual/2/model/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(model_folder)  # it named none, and no verb could open it
    capsys.readouterr()
    assert main(words) == 0  # nothing is left to do
    assert capsys.readouterr().out.count("finished already") == 2
