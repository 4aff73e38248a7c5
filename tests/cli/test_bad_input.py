"""Bad input gets one line that names the setting and the fix, exit code 2, and no traceback."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from align.cli.main import main
from tests.test_configs import CPU, METHOD
from tests.tiny import save_tiny

pytestmark = pytest.mark.bad_input


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
            (
                ["generate", "--model", "x", "--prompt", "y"],
                "tokenizer x: cannot be loaded",
            ),
            (
                ["generate", "--model.path", "x", "--prompt", "y", "--generation", "z"],
                "--generation: expected a YAML file of settings, got 'z'",
            ),
        ],
    )
    def test_words(self, told, words: list[str], line: str) -> None:
        assert line in told(*words)

    def test_a_part_that_is_called_like_a_class_of_fit_has_no_classes(self, told) -> None:
        words = ("generate", "--model.path", "x", "--prompt", "y", "--server.base_url", "http://127.0.0.1:9/v1")
        assert told(*words).endswith("required: --server.model")

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
                ["--data.batching.groups", "-2"],
                "batching.groups must be at least 1, got -2",
            ),
            (["--data.max_samples", "0"], "max_samples must be at least 1, got 0"),
            (["--data.splits.val_fraction", "2"], "fractions must not be negative and must add up to less than 1"),
            (["--data.encoding.truncation.max_total", "0"], "truncation.max_total must be at least 2 tokens, got 0"),
            (["--data.encoding.truncation", "short"], "'short'"),
            (["--model.optimizer.learning_rate", "0"], "optimizer.learning_rate must be positive"),
            (["--data.path", "nowhere.jsonl"], "data.path 'nowhere.jsonl': no such file"),
            (["--model.backbone.path", "./nowhere"], "backbone path ./nowhere: no such folder"),
            (["--model.reference", "BaseWithoutAdapters"], "reference BaseWithoutAdapters needs backbone.lora"),
            (["--ckpt_path", "nowhere.ckpt"], "--ckpt_path 'nowhere.ckpt': no such file"),
        ],
    )
    def test_settings(self, told, fit_words: list[str], extra: list[str], line: str) -> None:
        assert line in told(*fit_words, *extra)

    def test_debug_shows_the_traceback(self, fit_words: list[str]) -> None:
        with pytest.raises(Exception, match="max_samples must be at least 1"):
            main([*fit_words, "--data.max_samples", "0", "--debug"])


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
            (gzip.compress(b'{"prompt": "a"}' * 99, mtime=0)[:-9], "damaged gzip file"),
            (gzip.compress(b"a" * 2**27, mtime=0), "bytes of gzip hold more than"),
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
