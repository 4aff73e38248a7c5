"""Bad input gets one line that names the setting and the fix, exit code 2, and no traceback."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.cli.trainer_check import check_trainer
from align.data.fitting import check_view
from align.data.hindsight import Hindsight
from align.data.scored_lists import ScoredLists
from align.data.views import Pairs, Unpaired
from align.errors import ConfigError
from tests.test_configs import CPU, METHOD
from tests.tiny import save_tiny, write_pairs

HUGE = "9" * 30


class TestCommandLine:
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["fitt"], "unknown verb 'fitt', did you mean 'fit'?"),
            (["fit"], "required: --data (one of HHRLHFDataModule, HelpSteerDataModule"),
            (
                ["fit", "-c", METHOD, "--data", "HHRLHDataModule"],
                "no class named 'HHRLHDataModule', did you mean 'HHRLHFDataModule'?",
            ),
            (
                ["fit", "-c", METHOD, "--data", "HHRLHFDataModule", "--model.backbone.path", "m"],
                "required: --data.path",
            ),
            (
                ["fit", "--model", "DPOModul", "--data", "HHRLHFDataModule"],
                "no class named 'DPOModul', did you mean 'DPOModule'?",
            ),
            (["fit", "-c", "nowhere.yaml"], "config nowhere.yaml: cannot be read (No such file or directory)"),
            (["generate"], "required: --model.path"),
            (["export", "--run", "x"], "required: --out"),
            (["generate", "--model.path", "x", "--promt", "y"], "unknown setting --promt, did you mean 'prompt'?"),
        ],
    )
    def test_words(self, told, words: list[str], line: str) -> None:
        assert line in told(*words)

    @pytest.mark.parametrize(
        ("extra", "line"),
        [
            (["--data.pth", "x"], "unknown setting --data.pth of PreferenceFileDataModule, did you mean 'path'?"),
            (
                ["--model.backbone.pth", "x"],
                "unknown setting --model.backbone.pth of DPOModule, did you mean 'backbone.path'?",
            ),
            (["--model.lr", "1"], "unknown setting --model.lr of DPOModule"),
            (["--trainer.max_epoch", "3"], "unknown setting --trainer.max_epoch, did you mean 'trainer.max_epochs'?"),
            (["--trainer.max_epochs", "x"], "--trainer.max_epochs: expected int, got 'x'"),
            (["--model.objective.beta", "-1"], "beta must be positive, got -1.0"),
            (["--model.objective.beta", "0"], "beta must be positive, got 0.0"),
            (["--model.objective.beta", "many"], "expected float"),
            (["--model.backbone.dtype", "float31"], "float31"),
            (["--model.backbone.lora.r", "0"], "backbone.lora.r must be at least 1, got 0"),
            (["--data.batching.tokens", "0"], "batching.tokens must be at least 1, got 0"),
            (
                ["--data.batching", "FixedSize", "--data.batching.groups", "-2"],
                "batching.groups must be at least 1, got -2",
            ),
            (["--data.max_samples", "0"], "max_samples must be at least 1, got 0"),
            (["--data.splits.val_fraction", "2"], "fractions must not be negative and must add up to less than 1"),
            (["--data.encoding.truncation.max_total", "0"], "truncation.max_total must be at least 2 tokens, got 0"),
            (["--data.encoding.truncation", "short"], "'short'"),
            (["--model.optimizer.learning_rate", "0"], "optimizer.learning_rate must be positive"),
            (["--data.path", "nowhere.jsonl"], "data.path 'nowhere.jsonl': no such file"),
            (["--model.backbone.path", "./nowhere"], "backbone path ./nowhere: no such folder"),
            (["--model.reference", "AdapterOff"], "reference AdapterOff needs backbone.lora"),
            (["--ckpt_path", "nowhere.ckpt"], "--ckpt_path 'nowhere.ckpt': no such file"),
        ],
    )
    def test_settings(self, told, fit_words: list[str], extra: list[str], line: str) -> None:
        assert line in told(*fit_words, *extra)

    @pytest.mark.parametrize(
        ("extra", "line"),
        [
            (
                ["--trainer.accumulate_grad_batches", HUGE],
                "--trainer.accumulate_grad_batches: expected a number of at most",
            ),
            (
                ["--trainer.max_epochs", HUGE],
                "--trainer.max_epochs: expected a number of at most 64 bits, got about 1e+30",
            ),
            (["--trainer.num_nodes", HUGE], "--trainer.num_nodes: expected a number of at most 64 bits"),
            (["--data.max_samples", HUGE], "a number of 30 digits, at most 18 fit"),
            (["--seed_everything", HUGE], "--seed_everything: expected a number of at most 64 bits"),
            (["--model.objective.beta", "nan"], "--model.objective.beta: expected float, got 'nan'"),
            (["--model.objective.beta", ".nan"], "--model.objective.beta: expected a number, got nan"),
            (
                ["--model.optimizer.learning_rate", ".nan"],
                "--model.optimizer.learning_rate: expected a number, got nan",
            ),
            (["--trainer.gradient_clip_val", ".nan"], "--trainer.gradient_clip_val: expected a number, got nan"),
            (
                ["--trainer.devices", "x"],
                "--trainer.devices: expected auto, a number from 1 on, or a list such as [0, 1], got",
            ),
            (["--trainer.devices", "0"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "-3"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "1.5"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "[]"], "--trainer.devices: expected auto"),
            (["--trainer.devices", "[0, x]"], "--trainer.devices: expected auto"),
            (["--trainer.devices", HUGE], "--trainer.devices: expected a number of at most 64 bits"),
            (["--data.batching.num_workers", "1000"], "--data.batching.num_workers: expected at most"),
            (
                ["--model.backbone.attn_implementation", "some/kernel"],
                "is a kernel of the hub, which is code of others",
            ),
            (["--model.backbone.lora.target_modules", "("], "backbone.lora.target_modules '('"),
            (["--data.view", "RegressionRows"], "--data.view RegressionRows: DPOModule takes pairs, expected Pairs"),
            (["--data.view", "Singles"], "--data.view Singles: DPOModule takes pairs"),
            (["--data.view", "Unpaired"], "--data.view Unpaired: DPOModule takes pairs"),
            (["--data.view", "RankedLists"], "--data.view RankedLists: DPOModule takes pairs"),
            (["--data.columns", "{prompt: nowhere}"], "data.columns: no column 'nowhere' (there: prompt, chosen"),
            (["--data.columns", "{prompt: ''}"], "data.columns: no column ''"),
            (["--data.columns", "{chosen: prompt, rejected: prompt}"], "'prompt' is named for chosen and rejected"),
            (["--ckpt_path", "."], "--ckpt_path '.': no such file"),
        ],
    )
    def test_settings_that_were_tracebacks_or_told_late(
        self, told, fit_words: list[str], extra: list[str], line: str
    ) -> None:
        assert line in told(*fit_words, *extra)

    @pytest.mark.parametrize("option", ["-c", "--data.path", "--model.backbone.path", "--trainer.default_root_dir"])
    def test_a_link_to_itself(self, told, fit_words: list[str], tmp_path: Path, option: str) -> None:
        loop = tmp_path / "loop"
        loop.symlink_to(loop)
        assert str(loop) in told(*fit_words, option, str(loop))

    def test_devices_that_are_right(self) -> None:
        for devices in ("auto", None, 1, "1", -1, "-1", [0], "0,1", [0, 3], "2"):
            check_trainer({"devices": devices})

    def test_views_that_fit(self) -> None:
        for view, wanted in ((Pairs(), "lists"), (ScoredLists(max_responses=1), "singles"), (Hindsight(), "singles")):
            check_view(view, wanted, "X")
        for view, wanted in ((ScoredLists(), "singles"), (Unpaired(), "singles"), (Pairs(), "unpaired")):
            with pytest.raises(ConfigError, match=r"leave data\.view out"):
                check_view(view, wanted, "X")

    def test_debug_shows_the_traceback(self, fit_words: list[str]) -> None:
        with pytest.raises(Exception, match="max_samples must be at least 1"):
            main([*fit_words, "--data.max_samples", "0", "--debug"])


def callback(name: str, **settings: object) -> list[str]:
    return ["--trainer.callbacks", json.dumps([{"class_path": name, "init_args": settings}])]


class TestMonitors:
    """A metric that nobody logs stopped a run at the end of its first epoch."""

    SHORT = ("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1")

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (
                callback("EarlyStopping", monitor="nowhere"),
                "EarlyStopping: no metric is called 'nowhere' (there: val/kl",
            ),
            (callback("EarlyStopping", monitor="val/los"), "no metric is called 'val/los', did you mean 'val/loss'?"),
            (
                callback("Checkpoint", monitor="val/accuracy"),
                "Checkpoint: no metric is called 'val/accuracy', did you mean",
            ),
            (
                callback("lightning.pytorch.callbacks.ModelCheckpoint", monitor="x"),
                "ModelCheckpoint: no metric is called 'x'",
            ),
            (
                callback("EarlyStopping", monitor="train/los"),
                "no metric is called 'train/los', did you mean 'train/loss'?",
            ),
            (
                [*callback("EarlyStopping", monitor="val/loss"), "--data.splits.val_fraction", "0"],
                "EarlyStopping: monitor 'val/loss' is a metric of validation, and there is none",
            ),
        ],
    )
    def test_a_metric_that_is_never_logged(self, told, fit_words: list[str], words: list[str], line: str) -> None:
        assert line in told(*fit_words, *self.SHORT, *words)
        assert not list(Path("runs").rglob("*.ckpt"))

    @pytest.mark.parametrize("name", ["val/loss", "train/loss", "train/grad_norm", "val/rewards/accuracies"])
    def test_metrics_that_are_logged(self, fit_words: list[str], name: str) -> None:
        assert main([*fit_words, *self.SHORT, *callback("EarlyStopping", monitor=name)]) == 0

    def test_a_callback_that_can_do_without(self, fit_words: list[str]) -> None:
        assert main([*fit_words, *self.SHORT, *callback("EarlyStopping", monitor="val/x", strict=False)]) == 0


class TestRuns:
    """Settings and checkpoints of a run that are not what the run wrote."""

    @pytest.fixture(scope="class")
    def finished(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
        root = tmp_path_factory.mktemp("runs")
        model, pairs = save_tiny(root / "tiny"), write_pairs(root / "pairs.jsonl", 40)
        words = ["fit", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", str(pairs)]
        words += ["--model.backbone.path", str(model), *TestMonitors.SHORT]
        assert main([*words, "--trainer.default_root_dir", str(root / "run")]) == 0
        return root / "run", words

    @pytest.fixture
    def run(self, finished: tuple[Path, list[str]], tmp_path: Path) -> Path:
        copy = tmp_path / "copy"
        shutil.copytree(finished[0], copy)
        (copy / "finished.json").unlink()
        return copy

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ("", "its settings are damaged (config.yaml names no model)"),
            ("# nothing\n", "its settings are damaged (config.yaml names no model)"),
            ("- a\n", "its settings are damaged (config.yaml names no model)"),
            ("text\n", "its settings are damaged (config.yaml names no model)"),
            ("trainer: {}\n", "its settings are damaged (config.yaml names no model)"),
            ("model: null\n", "its settings are damaged (config.yaml names no model)"),
            ("model: [1]\n", "its settings are damaged (config.yaml names no model)"),
            ("a: [\n", "its settings are damaged (config "),
            ("\x00", "its settings are damaged (config "),
            (
                "model: !!python/object/apply:os.system [x]\n",
                "is not allowed: write plain values): put config.yaml back",
            ),
        ],
    )
    def test_settings(self, told, finished, run: Path, content: str, line: str) -> None:
        (run / "config.yaml").write_text(content)
        assert line in told(*finished[1], "--trainer.default_root_dir", str(run))
        assert line in told("export", "--run", str(run), "--out", str(run / "out"))
        assert "config.yaml" in told("report", str(run)) or content == "trainer: {}\n"

    def test_a_pipe_for_settings(self, told, finished, run: Path) -> None:
        (run / "config.yaml").unlink()
        os.mkfifo(run / "config.yaml")
        assert "not a regular file" in told(*finished[1], "--trainer.default_root_dir", str(run))

    @pytest.mark.parametrize(
        "content", [[1, 2], {"state_dict": {}}, {"state_dict": Path("x")}], ids=["list", "less", "code"]
    )
    def test_checkpoints(self, told, finished, run: Path, content: object) -> None:
        checkpoint = run / "checkpoints" / "last.ckpt"
        checkpoint.with_suffix(".json").unlink()
        torch.save(content, checkpoint)
        assert str(checkpoint) in told(*finished[1], "--trainer.default_root_dir", str(run))
        line = told("export", "--run", str(run), "--out", str(run / "out"))
        assert "damaged checkpoint, or not one of ours" in line
        assert not (run / "out").exists()


class TestData:
    """Every fault of a data file, through the command line."""

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", "the file is empty"),
            (b"\n\n", "the file is empty"),
            (b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a', "line 2: not valid JSON"),
            ('{"prompt": "a"}'.encode("utf-16"), "UTF-16 text, expected UTF-8"),
            (b'{"prompt": "\xff"}', "line 1: byte 0xff is not UTF-8"),
            (b'{"prompt": "a", "chosen": "b"}', "line 1: no key 'rejected'"),
            (b'{"prompt": "a", "chosen": null, "rejected": "c"}', "line 1: 'chosen' is null"),
            (b'{"prompt": "a", "chosen": 5, "rejected": "c"}', "line 1: 'chosen' is int '5', expected text"),
            (
                b'{"prompt": "a", "chosen": "x", "rejected": "x"}',
                "no Pairs in the train split: 1 rows, 0 groups kept, dropped: 1 identical",
            ),
            (b'{"prompt": "a", "chosen": "", "rejected": "x"}', "dropped: 1 empty response"),
            (b'{"prompt": "a", "chosen": " \\n", "rejected": "x"}', "dropped: 1 empty response"),
            (b'{"prompt": "a", "chosen": "\\u0000", "rejected": "x"}', "dropped: 1 NUL character in the text"),
            (b'{"prompt": "a", "chosen": "\\ud800", "rejected": "x"}', "dropped: 1 lone surrogate in the text"),
            (b'{"chosen": "abc", "rejected": "xyz"}', "no column is known to hold their prompt"),
            (b"[" * 100_000, "not valid JSON, maximum recursion depth exceeded"),
            (b'{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}', "key 'prompt' stands twice"),
            (
                b'{"prompt": "a", "chosen": "c", "rejected": "d", "score_chosen": 1'
                + b"0" * 400
                + b', "score_rejected": 1}',
                "'score_chosen' inf is not finite",
            ),
            (b"\x1f\x8b" + b"x" * 20, "damaged gzip file"),
            (gzip.compress(b'{"prompt": "a"}' * 99)[:-9], "damaged gzip file"),
            (gzip.compress(b"a" * 2**27), "bytes of gzip hold more than"),
            (b"PAR1", "damaged Parquet file"),
            (b"\0" * 1000, "expected JSONL, JSON, Parquet, CSV or TSV"),
            (b"5\n6\n", "expected JSONL, JSON, Parquet, CSV or TSV"),
        ],
    )
    def test_faults(self, told, model_folder: Path, tmp_path: Path, content: bytes, line: str) -> None:
        path = tmp_path / "data.jsonl"
        path.write_bytes(content)
        words = (
            "fit",
            "-c",
            METHOD,
            "-c",
            CPU,
            "--data",
            "PreferenceFileDataModule",
            "--data.path",
            str(path),
            "--data.splits.val_fraction",
            "0",
        )
        assert line in told(*words, "--model.backbone.path", str(model_folder))

    def test_special_characters_are_trained_on(self, model_folder: Path, tmp_path: Path) -> None:
        """BOM, gzip under another name, right-to-left and zero-width marks, typed special tokens."""
        rows = [
            {"prompt": f"\u202eשלום {i}", "chosen": "zero\u200bwidth </s> <|im_end|>", "rejected": "\u0627\u0644"}
            for i in range(4)
        ]
        path = tmp_path / "data.json"
        path.write_bytes(b"\xef\xbb\xbf" + "\n".join(map(json.dumps, rows)).encode())
        words = [
            "fit",
            "-c",
            METHOD,
            "-c",
            CPU,
            "--data",
            "PreferenceFileDataModule",
            "--data.path",
            str(path),
            "--data.splits.val_fraction",
            "0",
        ]
        assert (
            main(
                [
                    *words,
                    "--model.backbone.path",
                    str(model_folder),
                    "--trainer.default_root_dir",
                    str(tmp_path / "run"),
                ]
            )
            == 0
        )

    @pytest.mark.parametrize(
        ("make", "line"),
        [
            (lambda path: path.symlink_to(path.parent / "nowhere"), "a link to nothing, among data files"),
            (lambda path: path.symlink_to(path), "a link to nothing, among data files"),
            (lambda path: path.symlink_to("/dev/zero"), "among data files: mend it, or move it away"),
            (os.mkfifo, "not a regular file, among data files"),
        ],
        ids=["dangling", "loop", "zero", "pipe"],
    )
    def test_a_shard_that_is_no_file(self, told, model_folder: Path, tmp_path: Path, make, line: str) -> None:
        """Reading past it would lose its rows in silence."""
        folder = tmp_path / "data"
        folder.mkdir()
        write_pairs(folder / "train-0.jsonl", 10)
        make(folder / "train-1.jsonl")
        words = ("fit", "-c", METHOD, "--data", "PreferenceFileDataModule", "--data.path", str(folder))
        assert line in told(*words, "--model.backbone.path", str(model_folder))

    def test_parquet_shards_that_disagree(self, told, model_folder: Path, tmp_path: Path) -> None:
        rows = [{"prompt": f"p{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(20)]
        other = {"types": [{**row, "chosen": 5} for row in rows], "names": [{"q": r["prompt"], "w": "x"} for r in rows]}
        for name, second in other.items():
            folder = tmp_path / name
            folder.mkdir()
            pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00002.parquet")
            pq.write_table(pa.Table.from_pylist(second), folder / "train-00001-of-00002.parquet")
            words = ("fit", "-c", METHOD, "--data", "PreferenceFileDataModule", "--data.path", str(folder))
            line = told(*words, "--model.backbone.path", str(model_folder))
            assert "train-00001-of-00002.parquet, row 1: " in line

    def test_pipes_are_refused(self, told, model_folder: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        words = (
            "fit",
            "-c",
            METHOD,
            "--data",
            "HHRLHFDataModule",
            "--data.path",
            str(tmp_path / "pipe"),
            "--model.backbone.path",
            str(model_folder),
        )
        assert "not a regular file" in told(*words)


class TestModels:
    @pytest.mark.parametrize(
        ("name", "change", "line"),
        [
            ("model.safetensors", lambda data: data[:2000], "damaged safetensors file (2000 bytes"),
            ("model.safetensors", lambda data: b"", "the file is empty"),
            ("model.safetensors", lambda data: b"<!DOCTYPE html>", "a web page, not the file itself"),
            ("model.safetensors", lambda data: b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
            ("config.json", lambda data: b"{", "not a valid JSON file"),
        ],
    )
    def test_damaged_folders(
        self, told, fit_words: list[str], model_folder: Path, name: str, change, line: str
    ) -> None:
        path = model_folder / name
        path.write_bytes(change(path.read_bytes()))
        assert line in told(*fit_words)

    @pytest.mark.parametrize(
        ("name", "change", "line"),
        [
            ("base_model_name_or_path", None, "base_model_name_or_path is None, expected the model it belongs to"),
            ("base_model_name_or_path", "", "base_model_name_or_path is '', expected"),
            ("base_model_name_or_path", 5, "base_model_name_or_path is 5, expected"),
            ("base_model_name_or_path", "/nowhere", "its base /nowhere is no model folder and no hub id"),
            ("peft_type", None, "peft_type 'None' is none that PEFT knows"),
            ("peft_type", "X", "peft_type 'X' is none that PEFT knows"),
            ("target_modules", "(", "does not fit its base model"),
            ("target_modules", ["nowhere"], "does not fit its base model"),
            ("r", "x", "does not fit its base model"),
        ],
    )
    def test_adapters(self, told, model_folder: Path, tmp_path: Path, name: str, change: object, line: str) -> None:
        out = tmp_path / "adapter"
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(out)
        path = out / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: change}))
        assert line in told("generate", "--model.path", str(out), "--prompt", "x")

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000 in its config.json"),
            ({"hidden_size": "x"}, "'hidden_size' expected int"),
            ({"vocab_size": 10}, "its weights are not those of LlamaForCausalLM"),
        ],
    )
    def test_configurations(self, told, model_folder: Path, change: dict[str, object], line: str) -> None:
        path = model_folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        assert line in told("generate", "--model.path", str(model_folder), "--prompt", "x")

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
    @pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"model": {"type": "X"}}'])
    def test_damaged_tokenizers(self, told, model_folder: Path, name: str, content: str) -> None:
        if name == "tokenizer_config.json" and content.startswith('{"'):
            pytest.skip("a configuration that says nothing is no fault")
        (model_folder / name).write_text(content)
        assert f"tokenizer {model_folder}: cannot be loaded" in told(
            "generate", "--model.path", str(model_folder), "--prompt", "x"
        )

    @pytest.mark.parametrize(
        "template",
        [
            "{% for i in range(10**9) %}{% endfor %}",
            "{{ range(10**9) | list }}",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 9 ** (9 ** 9) }}",
            "{{ 'a'.center(10 ** 10) }}",
        ],
    )
    def test_templates_without_end(self, told, fit_words: list[str], tmp_path: Path, template: str) -> None:
        path = tmp_path / "own.jinja"
        path.write_text(template)
        began = time.process_time()
        assert "chat template" in told(*fit_words, "--data.encoding.template", str(path)).replace(
            str(path), "chat template"
        )
        assert time.process_time() - began < 60

    def test_tokenizer_without_eos(self, told, fit_words: list[str], model_folder: Path) -> None:
        path = model_folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        del settings["eos_token"]
        path.write_text(json.dumps(settings))
        assert "the tokenizer has no end-of-sequence token" in told(*fit_words)

    def test_template_that_is_asked_for_and_missing(self, told, fit_words: list[str]) -> None:
        assert "the tokenizer has no chat template" in told(*fit_words, "--data.encoding.template", "chat")

    def test_vocabulary_larger_than_the_embedding(self, told, fit_words: list[str], tmp_path: Path) -> None:
        small = save_tiny(tmp_path / "small", vocab_size=100)
        assert "the model's embedding 100 rows" in told(*fit_words, "--model.backbone.path", str(small))

    @pytest.mark.parametrize("limit", [0, 10**30])
    def test_odd_model_max_length_does_not_matter(
        self, fit_words: list[str], model_folder: Path, tmp_path: Path, limit: int
    ) -> None:
        path = model_folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": limit}))
        assert (
            main(
                [*fit_words, "--trainer.limit_train_batches", "1", "--trainer.default_root_dir", str(tmp_path / "run")]
            )
            == 0
        )

    def test_tokenizer_without_pad_bos_and_template_trains(
        self, fit_words: list[str], model_folder: Path, tmp_path: Path
    ) -> None:
        path = model_folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        for key in ("pad_token", "bos_token"):
            settings.pop(key, None)
        path.write_text(json.dumps(settings))
        assert (
            main(
                [*fit_words, "--trainer.limit_train_batches", "1", "--trainer.default_root_dir", str(tmp_path / "run")]
            )
            == 0
        )
