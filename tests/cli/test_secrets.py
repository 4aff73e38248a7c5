"""A key in the environment is in no file and no output of a full run, and a key among the settings is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.cli.main import main

MARKER = "marker-5f1c0e7d2b"
KEYS = ["HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD"]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, f"{MARKER}-{name}")


def files_with(text: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_no_byte_of_a_full_run_holds_a_key(
    keys: None, fit_words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, cpu = str(tmp_path / "run"), ["--trainer.limit_train_batches", "2", "--data.splits.val_fraction", "0.2"]
    last = ["--ckpt_path", f"{run}/checkpoints/last.ckpt"]
    few = ["--generation.max_new_tokens", "3", "--out", "samples.jsonl"]
    assert main([*fit_words, *cpu, "--trainer.default_root_dir", run]) == 0
    assert main(["predict", *fit_words[1:], *cpu, *last, "--trainer.default_root_dir", run]) == 0
    assert main(["export", "--run", run, "--out", "exported"]) == 0
    assert main(["generate", "--model.path", "exported", "--prompt", "Hi", *few]) == 0
    output = capfd.readouterr()
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert {".ckpt", ".yaml", ".jsonl", ".safetensors", ".md", ".arrow"} <= kinds
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    assert files_with("DPOModule", tmp_path / "run")  # the search finds what is there
    assert not files_with(MARKER, tmp_path)
    assert MARKER not in output.out + output.err


@pytest.mark.parametrize(
    "words",
    [
        ["--model.backbone.path", f"{MARKER}-HF_TOKEN"],
        ["--data.path", f"https://user:{MARKER}-HF_TOKEN@host/file"],
        [f"--data.path={MARKER}-OPENAI_API_KEY"],
    ],
)
def test_the_value_of_a_variable_is_refused(keys: None, told, fit_words: list[str], words: list[str]) -> None:
    line = told(*fit_words, *words)
    assert "holds the value of environment variable" in line
    assert MARKER not in line


@pytest.mark.parametrize(
    ("text", "told_of"),
    [
        ("data: {path: sk-proj-abcdefghijklmnopqrstuvwx}\n", "what looks like a secret key"),
        ("data: {path: hf_abcdefghijklmnopqrstuvwxyz}\n", "what looks like a secret key"),
        ("data: {path: '${oc.env:HF_TOKEN}'}\n", "${oc.env:HF_TOKEN} would stay as it is"),
        (f"# {MARKER}-HF_TOKEN\ndata: {{path: x}}\n", "the value of environment variable HF_TOKEN"),
    ],
)
def test_a_config_with_a_key_is_refused(
    keys: None, told, fit_words: list[str], tmp_path: Path, text: str, told_of: str
) -> None:
    (tmp_path / "own.yaml").write_text(text)
    line = told(*fit_words, "-c", str(tmp_path / "own.yaml"))
    assert told_of in line
    assert "abcdefghij" not in line
    assert MARKER not in line


def test_words_that_only_begin_like_a_key_are_fine(told) -> None:
    assert "no such folder" in told("generate", "--model.path", "./sk-learn_model", "--prompt", "hf_hub")
