"""`align evaluate --start --matched --best_of`: entropies and perplexity by plain transformers, the start as sharp."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.records import Message
from tests.tiny import save_tiny, tiny_tokenizer

SAMPLES = ("--sampling.generation.max_new_tokens", "6", "--sampling.generation.num_samples", "4", "--out", "out")
LENGTH = ("--scorer", "FunctionRewards", "--scorer.function", "align.rewards.verifiable:length")


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    rows = [{"prompt": text} for text in ("How are you?", "Why?", "Tell me a story.")]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def words_of(models: dict[str, str], prompts: str, *more: str) -> list[str]:
    named = [word for name, path in models.items() for word in (f"--models.{name}", path)]
    return ["evaluate", *named, "--prompts", prompts, *LENGTH, *SAMPLES, *more]


def sharpened(folder: Path, factor: float) -> str:
    """Multiply a model's logits: what it is at temperature 1 / factor."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(factor)
    model.save_pretrained(folder)
    return str(folder)


def by_transformers(model: Any, rows: list[dict[str, Any]], prompts: list[list[int]], temperature: float) -> Any:
    """Entropies, log-probabilities and numbers of tokens of responses by plain forward passes."""
    found = []
    for place, row in enumerate(rows):  # four samples of each prompt
        prompt, ids = prompts[place // 4], row["ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
        logprobs = (logits / temperature).log_softmax(-1)
        own = logprobs.gather(1, torch.tensor(ids)[:, None]).sum()
        found.append([float(-(logprobs.exp() * logprobs).sum()), float(own), len(ids)])
    return torch.tensor(found, dtype=torch.float64)


def test_the_start_is_sampled_as_sharply_as_each_model(
    model_folder: Path, tmp_path: Path, prompts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"start": sharpened(model_folder, 20), "sharp": sharpened(save_tiny(tmp_path / "sharp"), 40)}
    asked = ("--start", "start", "--matched", "true", "--sampling.temperatures", "[0, 0.7, 1.0]")
    assert main(words_of(models, prompts, *asked, "--best_of.n", "[1, 4]")) == 0
    report = json.loads(Path("out/evaluation.json").read_text())
    encoder = Encoder(tiny_tokenizer(), make_template(tiny_tokenizer(), "auto"), Truncation())
    ids = [
        encoder.prompt_ids([Message("user", json.loads(line)["prompt"])])
        for line in Path(prompts).read_text().splitlines()
    ]
    plain = {name: AutoModelForCausalLM.from_pretrained(path).eval() for name, path in models.items()}
    for temperature in (0.7, 1.0):
        level = report["models"]["sharp"][str(temperature)]
        file = Path("out") / report["completions"]["sharp"][str(temperature)]
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        own = by_transformers(plain["sharp"], rows, ids, temperature)
        start = by_transformers(plain["start"], rows, ids, 1.0)
        assert level["entropy"][0] == pytest.approx(float(own[:, 0].sum() / own[:, 2].sum()), rel=1e-3)
        assert level["sequence_entropy"][0] == pytest.approx(float(own[:, 0].mean()), rel=1e-3)
        assert level["kl"][0] == pytest.approx(float((own[:, 1] - start[:, 1]).mean()), rel=1e-3)
        assert level["perplexity"][0] == pytest.approx(math.exp(-start[:, 1].sum() / start[:, 2].sum()), rel=1e-3)
        assert level["entropy"][1] <= level["entropy"][0] <= level["entropy"][2]
        matched = report["matched"]["sharp"][str(temperature)]
        assert matched["entropy"]["temperature"] == pytest.approx(temperature / 2, abs=0.02)
        assert matched["kl"]["temperature"] == pytest.approx(temperature / 2, abs=0.06)
        gain = matched["entropy"]["gain"]["length"][0]
        there = matched["entropy"]["report"]["rewards"]["length"]["total"]["raw"][0]
        assert gain == pytest.approx(level["rewards"]["length"]["total"]["raw"][0] - there)
    greedy = report["models"]["sharp"]["0.0"]
    assert greedy["entropy"] is None
    assert greedy["perplexity"][0] > 1
    assert list(report["matched"]) == ["sharp"]
    assert "0.0" not in report["matched"]["sharp"]
    best = report["models"]["start"]["1.0"]["best_of"]
    assert best["1"]["rewards"]["length"][0] == pytest.approx(
        report["models"]["start"]["1.0"]["rewards"]["length"]["total"]["raw"][0]
    )
    assert best["4"]["rewards"]["length"][0] >= best["1"]["rewards"]["length"][0]
    shown = capsys.readouterr().out
    assert "the start at the temperature of the same entropy" in shown
    assert "best of n samples" in shown


def test_an_entropy_out_of_reach_is_told_and_nothing_else_is_lost(
    model_folder: Path, tmp_path: Path, prompts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"start": str(model_folder), "frozen": sharpened(save_tiny(tmp_path / "frozen"), 1e5)}
    more = ("--start", str(model_folder), "--matched", "true", "--sampling.temperatures", "[1.0]", "--sampling.check")
    assert main(words_of(models, prompts, *more, "false")) == 0
    found = json.loads(Path("out/evaluation.json").read_text())["matched"]["frozen"]["1.0"]
    assert list(found) == ["entropy", "kl"]
    assert found["kl"]["temperature"] is None
    assert found["kl"]["report"] is None
    assert found["entropy"]["target"] == pytest.approx(0, abs=0.05)
    assert "frozen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--matched", "true"), "name it in --start"),
        (("--matched", "true", "--start", "a", "--sampling.temperatures", "[1.0]"), "the only model is the start"),
        (("--best_of.n", "[8]", "--sampling.temperatures", "[1.0]"), "8 needs as many samples of a prompt, got 4"),
        (("--best_of.n", "[2]"), r"needs samples, and there are none at --sampling.temperatures \[0\]"),
        (("--best_of.n", "[2]", "--best_of.by", "x", "--sampling.temperatures", "[1.0]"), "'x' is no reward of these"),
    ],
)
def test_what_cannot_be_done_is_refused(
    model_folder: Path, prompts: str, more: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of({"a": str(model_folder)}, prompts, *more)
    if "--start" not in more and "[1.0]" not in more:  # greedy draws one sample
        words = [w for w in words if w not in ("--sampling.generation.num_samples", "4")]
    assert main(words) == 2
    assert re.search(told, capsys.readouterr().err)
