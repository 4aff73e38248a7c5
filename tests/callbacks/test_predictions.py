"""Responses are scored behind the prompts a model is asked with, whether its checkpoint or its folder says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.activations.artefact import VectorNote, save_vectors
from align.activations.steering import Steering, steered
from align.callbacks.predictions import PredictionFile
from align.data.conditioning import ScoreConditioned
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.condition_file import write_condition_file
from align.modules.dpa import DPARSFModule
from align.modules.hir import HIRModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.records import Instructions, Message, WeightedRating
from align.records.asking import Ask
from tests.cli.things import TEMPLATE, lines
from tests.models.test_asked import FORMS
from tests.tiny import save_tiny

QUESTION, ANSWER = "Tell me 7", "b 7"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return lines(tmp_path / "p.jsonl", [{"prompt": f"Tell me {n}", "completion": f"b {n}"} for n in (7, 8, 9)])


def predicted(module: Any, data: Path, ask: Ask = Ask(), ckpt: str | None = None, **options: Any) -> dict[str, Any]:
    """Return the last row on the first question."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", callbacks=[PredictionFile(ask)], default_root_dir="run", **quiet)
    source = PreferenceFileDataModule(str(data), splits=Splits(0), seed=0, **options)
    trainer.predict(module, source, ckpt_path=ckpt, return_predictions=False)
    found = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert len(found) == 3 * len({row["candidate"] for row in found})
    return next(row for row in found if row["id"] == "line 1")


def logprob(folder: Path, *messages: Message, vectors: dict[int, torch.Tensor] | None = None) -> float:
    """Return the log-probability of the answer by a plain forward pass behind the rendered template."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    turns = [m.as_turn() for m in messages]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    head, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, ANSWER))
    ids = torch.tensor([head + answer + [tokenizer.eos_token_id]])
    with torch.no_grad(), steered(model, vectors or {}, Steering()):
        logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    return float(logprobs.gather(1, ids[0, 1:, None])[len(head) - 1 :].sum())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", template=TEMPLATE, initializer_range=0.7)


@pytest.mark.parametrize("name", FORMS)
def test_as_the_folder_says(name: str, folder: Path, rows: Path) -> None:
    form, _, text = FORMS[name]
    write_condition_file(form, folder)
    usual = predicted(SFTModule(Backbone(str(folder))), rows)
    bare = predicted(SFTModule(Backbone(str(folder))), rows, Ask(plain=True))
    question = text.replace("Hi", QUESTION) if "Hi" in text else f"{text} {QUESTION}"
    assert usual["asked"]
    assert bare["asked"] == "plain"
    assert bare["logprob"] == pytest.approx(logprob(folder, Message("user", QUESTION)), abs=1e-3)
    if "Hi" in text:
        assert usual["logprob"] == pytest.approx(logprob(folder, Message("user", question)), abs=1e-3)
    assert usual["logprob"] != pytest.approx(bare["logprob"], abs=1e-2)


def test_as_the_checkpoint_says(folder: Path, rows: Path, tmp_path: Path) -> None:
    module = DPARSFModule(Backbone(str(folder)), WeightedRating(system=""))
    module.asks = {"asks": "direction", "targets": []}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", max_steps=1, default_root_dir="fit", **quiet)
    trainer.fit(module, PreferenceFileDataModule(str(rows), splits=Splits(0), seed=0))
    trainer.save_checkpoint("one.ckpt")
    module.export(tmp_path / "exported")
    again = DPARSFModule(Backbone(str(folder)), WeightedRating(system=""))
    direction = Ask(direction="1,0")
    found = predicted(again, rows, direction, "one.ckpt")
    assert found["asked"].startswith("direction 1.00 helpfulness")
    exported = predicted(SFTModule(Backbone(str(tmp_path / "exported"))), rows, direction)
    assert found["logprob"] == pytest.approx(exported["logprob"], abs=1e-4)
    untouched = predicted(DPARSFModule(Backbone(str(folder))), rows)
    assert "asked" not in untouched  # a base that was trained under nothing


def test_what_is_asked_stays_where_a_prompt_is_cut(folder: Path, tmp_path: Path) -> None:
    write_condition_file(Instructions("Be good.", "Be bad."), folder)
    long = [{"prompt": "x" * 600 + f" {n}", "completion": f"b {n}"} for n in (7, 8, 9)]
    found = predicted(SFTModule(Backbone(str(folder))), lines(tmp_path / "l.jsonl", long))
    # of the context's 512 tokens (bytes here) [user] and [assistant] take 17, the answer and its end 4
    kept = "x" * (512 - 17 - 4 - len("Be good.\n\n") - 2)
    assert found["logprob"] == pytest.approx(logprob(folder, Message("user", f"Be good.\n\n{kept} 7")), abs=1e-3)


def test_vectors_of_a_folder_steer_what_is_scored(folder: Path, rows: Path, tmp_path: Path) -> None:
    vector = torch.linspace(-1, 1, 32)[None]
    save_vectors(tmp_path / "v.safetensors", {"mean": vector}, VectorNote((1,), "a - b"))
    write_condition_file(None, folder, Ask(steer=str(tmp_path / "v.safetensors")))
    found = predicted(SFTModule(Backbone(str(folder))), rows)
    moved = logprob(folder, Message("user", QUESTION), vectors={1: vector[0]})
    assert found["logprob"] == pytest.approx(moved, abs=1e-3)
    assert found["logprob"] != pytest.approx(logprob(folder, Message("user", QUESTION)), abs=1e-2)
    ask = Ask(steer=str(tmp_path / "v.safetensors"), where="generated")
    with pytest.raises(ConfigError, match="where generated: responses are scored in one pass"):
        predicted(SFTModule(Backbone(str(folder))), rows, ask)


def test_who_puts_prompts_under_something_itself_is_not_asked_twice(folder: Path, tmp_path: Path) -> None:
    write_condition_file(Instructions("Be good.", "Be bad."), folder)
    scored = [{"prompt": f"Tell me {n}", "completions": [f"b {n}"], "scores": [1.0]} for n in (7, 8, 9)]
    data, view = lines(tmp_path / "s.jsonl", scored), ScoreConditioned()
    assert "asked" not in predicted(SFTModule(Backbone(str(folder))), data, view=view)
    with pytest.raises(ConfigError, match=r"ask.plain: the data's view says what prompts are put under"):
        predicted(SFTModule(Backbone(str(folder))), data, Ask(plain=True), view=view)
    pairs = [{"prompt": f"Tell me {n}", "chosen": f"b {n}", "rejected": "no"} for n in (7, 8, 9)]
    own = lines(tmp_path / "c.jsonl", pairs)
    row = predicted(HIRModule(Backbone(str(folder)), instructions=Instructions("Be good.", "Be bad.")), own)
    under = [logprob(folder, Message("user", f"Be {how}.\n\n{QUESTION}")) for how in ("good", "bad")]
    assert [row["logprob_positive"], row["logprob_negative"]] == pytest.approx(under, abs=1e-3)
    with pytest.raises(ConfigError, match=r"ask\.under: RewardModel says what prompts are put under"):
        predicted(RewardModel(Backbone(str(folder))), own, Ask(under="negative"))
