"""Settings that name others are filled in by omegaconf, whichever files and options they come from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from align.cli.lightning import AlignCLI
from align.cli.main import main
from align.cli.settings_files import rooted
from align.models.small import new_llama, word_tokenizer
from align.world.language import TAGS, vocabulary


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Write a model with random weights."""
    tokenizer = word_tokenizer(vocabulary(), TAGS)
    model = new_llama(tokenizer, hidden_size=32, num_hidden_layers=1, max_positions=256, tied=False, seed=0)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def settings(folder: Path, **more: str) -> list[str]:
    """Write two files, one of which names what the other has, and return the command."""
    first = {"config": ["sft", "synthetic", "cpu"], "data": {"init_args": {"batching": {"groups": 6}}}}
    trainer = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": "${data.init_args.batching.groups}"}
    for name, content in {"first": first, "second": {"trainer": {**trainer, **more}}}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    files = ["-c", str(folder / "first.yaml"), "-c", str(folder / "second.yaml")]
    return ["fit", *files, "--data.preferences", "{size: 12, held_out_size: 6}"]


def test_files_options_and_later_values_are_filled_in(base: Path, tmp_path: Path) -> None:
    words = [*settings(tmp_path), "--model.backbone.path", str(base), "--data.batching.groups", "3"]
    words += ["--trainer.default_root_dir", f"{tmp_path}/run-${{data.init_args.batching.groups}}"]
    assert main(words) == 0
    written = yaml.safe_load((tmp_path / "run-3" / "config.yaml").read_text())
    assert written["trainer"]["limit_val_batches"] == 3  # the option came after both files


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("${data.groups}", "'data.groups' not found"),
        ("${trainer.limit_val_batches}", "ecursi"),
        ("${oc.env:HOME}", "HOME"),
    ],
)
def test_what_cannot_be_filled_in_is_one_line(
    value: str, told: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*settings(tmp_path, limit_val_batches=value), "--model.backbone.path", str(base)]
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("align fit: ")
    assert told in error


def test_names_stand_below_the_verb() -> None:
    assert rooted("a-${x.y[0]}-${.z}-${oc.env:HOME}-$x", "fit") == "a-${fit.x.y[0]}-${.z}-${oc.env:HOME}-$x"
    assert rooted("${x}", "") == "${x}"


def test_verbs_that_are_functions_too(base: Path, tmp_path: Path) -> None:
    given = {
        "prompt": "${out}",
        "out": f"{tmp_path}/${{generation.seed}}.jsonl",
        "generation": {"seed": 7, "max_new_tokens": 2},
    }
    (tmp_path / "generate.yaml").write_text(yaml.safe_dump(given))
    assert main(["generate", "-c", str(tmp_path / "generate.yaml"), "--model.path", str(base)]) == 0
    assert (tmp_path / "7.jsonl").exists()


def test_processes_are_given_the_command_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["align"])
    monkeypatch.setattr(AlignCLI, "parse_arguments", lambda *_: (_ for _ in ()).throw(InterruptedError))
    with pytest.raises(InterruptedError):
        AlignCLI(["fit", "--trainer.max_epochs", "${data.init_args.batching.groups}"])
    assert sys.argv[-1] == "${data.init_args.batching.groups}"
