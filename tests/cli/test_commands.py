"""The program as a user runs it: verbs, artefacts, and what each prints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from align.cli.main import HELP, main
from align.cli.verbs import LISTED
from tests.test_configs import CPU, METHOD, ROOT, scalars


def fit(pairs: Path, model: Path, run: Path, *more: str, method: str = METHOD) -> int:
    return main(
        [
            *("fit", "-c", method, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs)),
            *(
                "--data.batching.groups",
                "8",
                "--model.backbone.path",
                str(model),
                "--trainer.default_root_dir",
                str(run),
            ),
            *more,
        ]
    )


def test_help_is_immediate_and_names_every_verb() -> None:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "align", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 10  # no torch, no lightning; the machine may be busy
    assert "torch" not in done.stderr
    for verb in LISTED:
        assert verb in done.stdout
    light = "import sys, align.cli.main; align.cli.main.main(['--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True, capture_output=True)


@pytest.mark.parametrize("verb", LISTED)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"align {verb}" in capsys.readouterr().out.replace("[options] ", "")


def test_help_explains_settings_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model.help", "DPOModule"]) == 0
    text = capsys.readouterr().out
    for words in (
        "Weight of the chosen response's",
        "Model folder, adapter folder",
        "Peak learning rate",
        "references.Cached",
    ):
        assert words in " ".join(text.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("align 0.")
    assert main([]) == 0
    assert HELP.splitlines()[0] in capsys.readouterr().out


class TestFit:
    def test_the_run_folder(self, pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        assert fit(pairs_file, model_folder, run, "--data.splits.val_fraction", "0.2") == 0
        names = {p.name for p in run.iterdir()}
        assert {"config.yaml", "checkpoints", "model"} <= names
        assert (run / "checkpoints" / "last.ckpt").exists()
        losses = scalars(run, "train/loss")
        assert losses[0] == pytest.approx(0.6931472, abs=1e-7)
        assert len(losses) == 4  # 31 of the 40 pairs, 8 at a time
        card = (run / "model" / "README.md").read_text()
        assert "val/loss" in card
        assert "beta: 0.1" in card
        assert str(pairs_file) in card
        AutoModelForCausalLM.from_pretrained(run / "model")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run))
        events.Reload()
        assert "samples/text_summary" in events.Tags()["tensors"]
        tags = events.Tags()["scalars"]
        assert {"val/loss", "train/tokens_per_second", "train/memory_gb", "train/num_tokens", "train/lr"} <= set(tags)

    def test_the_saved_config_reproduces_the_run(self, pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
        assert (
            fit(
                pairs_file,
                model_folder,
                tmp_path / "a",
                "--model.backbone.lora.r",
                "4",
                "--model.optimizer.learning_rate",
                "1e-2",
            )
            == 0
        )
        again = ["fit", "-c", str(tmp_path / "a" / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "b")]
        assert main(again) == 0
        assert scalars(tmp_path / "a", "train/loss") == scalars(tmp_path / "b", "train/loss")
        first, second = (torch.load(tmp_path / n / "checkpoints" / "last.ckpt", weights_only=True) for n in "ab")
        assert all(torch.equal(v, second["state_dict"][k]) for k, v in first["state_dict"].items())

    def test_seed_changes_the_run(self, pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
        for seed in ("1", "2"):
            assert fit(pairs_file, model_folder, tmp_path / seed, "--seed_everything", seed) == 0
        assert scalars(tmp_path / "1", "train/logps/chosen") != scalars(tmp_path / "2", "train/logps/chosen")

    def test_a_used_folder_is_refused_and_can_be_continued(
        self, pairs_file: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        assert fit(pairs_file, model_folder, run) == 0
        assert fit(pairs_file, model_folder, run) == 2
        assert f"run folder {run} holds a finished run" in capsys.readouterr().err
        more = ("--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "2")
        assert fit(pairs_file, model_folder, run, *more) == 0
        assert len(scalars(run, "train/loss")) == 10

    def test_without_a_folder_runs_get_one_each(self, pairs_file: Path, model_folder: Path) -> None:
        arguments = [
            "fit",
            "-c",
            METHOD,
            "-c",
            CPU,
            "--data",
            "PreferenceFileDataModule",
            "--data.path",
            str(pairs_file),
        ]
        assert main([*arguments, "--model.backbone.path", str(model_folder)]) == 0
        (run,) = [p for p in Path("runs").iterdir() if p.name.startswith("dpo-")]
        assert (run / "model" / "config.json").exists()

    def test_appended_and_replaced_callbacks(self, pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text(
            "trainer:\n  callbacks+:\n    - class_path: align.callbacks.hf_export.HFExport\n      init_args: {folder: extra}\n"
        )
        assert fit(pairs_file, model_folder, tmp_path / "a", "-c", str(own)) == 0
        assert Path("extra/config.json").exists()
        assert (tmp_path / "a" / "model" / "config.json").exists()
        saved = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
        assert len(saved["trainer"]["callbacks"]) == 7


def test_sft_then_reward_model_then_dpo_from_the_adapter(pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
    sft, rm = (str(ROOT / "configs" / "method" / f"{name}.yaml") for name in ("sft", "reward_model"))
    assert fit(pairs_file, model_folder, tmp_path / "sft", "--model.backbone.lora.r", "2", method=sft) == 0
    assert fit(pairs_file, model_folder, tmp_path / "rm", method=rm) == 0
    assert fit(pairs_file, tmp_path / "sft" / "model", tmp_path / "dpo") == 0
    assert scalars(tmp_path / "dpo", "train/loss")[0] == pytest.approx(0.6931472, abs=1e-7)
    assert (tmp_path / "dpo" / "model" / "adapter_model.safetensors").exists()


class TestExport:
    @pytest.mark.parametrize("lora", [[], ["--model.backbone.lora.r", "2"]])
    def test_from_a_checkpoint(self, lora: list[str], pairs_file: Path, model_folder: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        assert fit(pairs_file, model_folder, run, "--model.optimizer.learning_rate", "1e-2", *lora) == 0
        assert main(["export", "--run", str(run), "--out", str(tmp_path / "out")]) == 0
        name = "adapter_model.safetensors" if lora else "model.safetensors"
        assert (tmp_path / "out" / name).read_bytes() == (run / "model" / name).read_bytes()
        assert (tmp_path / "out" / "README.md").read_text() == (run / "model" / "README.md").read_text()
        if lora:
            assert main(["export", "--run", str(run), "--out", str(tmp_path / "merged"), "--merge", "true"]) == 0
            AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
            assert not (tmp_path / "merged" / "adapter_config.json").exists()

    def test_faults(
        self, pairs_file: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        assert main(["export", "--run", str(run), "--out", "out"]) == 2
        assert "no config.yaml, so this is not a run" in capsys.readouterr().err
        assert fit(pairs_file, model_folder, run) == 0
        assert main(["export", "--run", str(run), "--out", "out", "--checkpoint", "best.ckpt"]) == 2
        assert "best.ckpt: no such checkpoint (there: epoch=0-step=5.ckpt, last.ckpt)" in capsys.readouterr().err
        last = run / "checkpoints" / "last.ckpt"
        last.write_bytes(last.read_bytes()[:500])
        assert main(["export", "--run", str(run), "--out", "out"]) == 2
        assert "damaged checkpoint, or not one of ours (500 bytes" in capsys.readouterr().err


class TestGenerate:
    @pytest.mark.parametrize("text", ["How do I bake bread?", "key: value", "- 3", "[1] is what?"])
    def test_a_prompt_is_plain_text(self, model_folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        few = ("--generation.max_new_tokens", "2")
        assert main(["generate", "--model.path", str(model_folder), "--prompt", text, *few]) == 0
        assert f"user: {text}" in capsys.readouterr().out

    def test_prints_and_writes(self, model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        few = ("--generation.max_new_tokens", "5")
        assert main(["generate", "--model.path", str(model_folder), "--prompt", '["Hi there"]', *few]) == 0
        assert "user: Hi there" in capsys.readouterr().out
        many = ("--generation.num_samples", "2", "--out", "out/samples.jsonl")
        assert main(["generate", "--model.path", str(model_folder), "--prompts", str(pairs_file), *few, *many]) == 0
        rows = [json.loads(line) for line in Path("out/samples.jsonl").read_text().splitlines()]
        assert len(rows) == 80
        assert set(rows[0]) == {"prompt", "completion", "tokens", "finished"}
        assert rows[0]["prompt"] == rows[1]["prompt"]

    def test_faults(self, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = ("--model.path", str(model_folder))
        assert main(["generate", *path]) == 2
        assert "nothing to complete" in capsys.readouterr().err
        assert main(["generate", *path, "--prompt", '["x"]', "--generation.temperature", "-1"]) == 2
        assert "temperature must not be negative" in capsys.readouterr().err


def test_init_model_makes_an_ordinary_folder(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "model", "--tokenizer", str(model_folder), "--hidden_size", "16", "--num_hidden_layers", "1"]
    assert main([*arguments, "--out", "made"]) == 0
    assert main([*arguments, "--out", "again"]) == 0
    models = [AutoModelForCausalLM.from_pretrained(name) for name in ("made", "again")]
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))
    assert main([*arguments, "--out", "made"]) == 2
    assert "made already holds a model" in capsys.readouterr().err
    assert main([*arguments, "--out", "odd", "--num_attention_heads", "3"]) == 2
    assert "num_attention_heads 3 does not divide hidden_size 16" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluating_verbs(
    verb: str, pairs_file: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *(verb, "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs_file)),
        *("--data.splits", '{"val_fraction": 0.3, "test_fraction": 0.3}', "--model.backbone.path", str(model_folder)),
        *("--trainer.default_root_dir", str(tmp_path / "run")),
    ]
    assert main(arguments) == 0
    if verb == "predict":
        rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
        assert {r["candidate"] for r in rows} == {0, 1}
        assert all(r["logprob"] < 0 for r in rows)
    else:
        phase = "val" if verb == "validate" else "test"
        assert f"{phase}/rewards/accuracies" in capsys.readouterr().out


def test_the_run_of_the_docs_from_python(pairs_file: Path, model_folder: Path) -> None:
    """The script in the docs, with its paths replaced."""
    text = (ROOT / "docs" / "how-to" / "runs.md").read_text()
    script = text.split("```python\n", 1)[1].split("```", 1)[0]
    assert len(script.strip().splitlines()) <= 18
    script = script.replace("HuggingFaceTB/SmolLM2-135M", str(model_folder)).replace("pairs.jsonl", str(pairs_file))
    exec(compile(script, "runs.md", "exec"), {})
    assert Path("runs/from-python/model/adapter_config.json").exists()
