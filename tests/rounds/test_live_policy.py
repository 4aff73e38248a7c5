"""The model being trained judges its own samples, with the weights of the round; what it has said stays said."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.judges.judge_prompts import JudgePrompt
from align.judges.language_judge import LanguageJudge
from align.judges.language_scorer import LanguageModelScorer, YesProbability
from align.judges.live_policy import LivePolicy
from align.judges.local_model import LocalModel
from align.judges.verdict_store import VerdictStore
from align.judges.win_rates import ScorerJudge, WinRates
from align.models.asked import PLAIN
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.records import Message
from align.rewards.components import PolicyNow, Training
from align.rewards.scorers import Scorer
from align.rewards.weighted_attributes import WeightedAttributes
from align.rounds.round_store import RoundStore
from align.rounds.weights import policy_hash
from align.training.optimizer import Optimizer
from tests.modules.fitting import fit, pairs_data
from tests.resume.runs import KILLED, Run
from tests.rounds.test_kills import NINE, check, killing
from tests.rounds.test_round_loader import resampling
from tests.test_configs import CPU, ROOT
from tests.tiny import save_tiny

ASKED = (Message("user", "Which tree?"),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "judge", max_position_embeddings=4096)


class Watch(Callback):
    """Keeps the model as each round begins to train: the one that drew and judged its samples."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.hashes.append(policy_hash(pl_module))
            self.weights.append({n: p.detach().clone() for n, p in self.kept(pl_module.model).items()})

    def kept(self, model: Any) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = model.state_dict()
        return found


def rounds(folder: Path, pairs: Path, scorer: Scorer) -> Watch:
    watch = Watch()
    module = DPOModule(Backbone(str(folder)), optimizer=Optimizer(learning_rate=1e-2))
    callbacks = [resampling(scorer, prompts=3), watch]
    fit(module, pairs_data(pairs, groups=3), callbacks=callbacks, max_epochs=2, default_root_dir="run")
    return watch


def kept() -> list[dict[str, Any]]:
    with sqlite3.connect("runs/judge.sqlite") as db:
        return [json.loads(body) for (body,) in db.execute("SELECT body FROM judge_reply ORDER BY rowid")]


def chance_of_yes(model: Any, tokenizer: Any, encoder: Encoder, messages: Any) -> float:
    """By a plain forward pass: the product of the chances of the bytes of each word after the prompt."""
    prompt, chances = encoder.prompt_ids(messages), []
    for word in ("Yes", "No"):
        ids = tokenizer(encoder.template.render(messages, word).response, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
        chances.append(math.exp(sum(logits[len(prompt) - 1 + n, token].item() for n, token in enumerate(ids))))
    return chances[0] / sum(chances)


def test_two_rounds_are_judged_by_the_weights_of_each(folder: Path, pairs_file: Path) -> None:
    """Every stored score is p(Yes) of a plain model with the weights of its round, which are those of the record."""
    scorer = YesProbability(LivePolicy())
    watch = rounds(folder, pairs_file, scorer)
    store = RoundStore(Path("run/rounds/rounds.sqlite"))
    assert [row.policy for row in store.rounds()] == watch.hashes
    assert len(set(watch.hashes)) == 2
    names = [name for (name,) in store.read("SELECT DISTINCT scorer FROM sample ORDER BY round")]
    assert len(names) == 2, "the policy of another round is another scorer"
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    encoder = Encoder(tokenizer, make_template(tokenizer), Truncation())
    examples = {e.id: e for e in PreferenceFile(str(pairs_file)).read("train", Report())}
    for number, weights in enumerate(watch.weights):
        plain.load_state_dict(weights)
        samples = store.samples(number)
        assert len(samples) == 12
        for sample in samples:
            query = examples[sample.prompt].messages[-1].content
            asked = scorer.judge.prompt.messages(query, sample.text, "")
            assert sample.scores == (pytest.approx(chance_of_yes(plain, tokenizer, encoder, asked), rel=1e-4),)
    assert {body["model"] for body in kept()} == {"the policy"}


def win_rates() -> WinRates:
    return WinRates(ScorerJudge(WeightedAttributes(YesProbability(LivePolicy()), {"yes": {"yes": 1.0}}), graded=True))


def test_what_was_said_before_a_kill_is_not_said_again(
    folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended inside the scoring of a round, over win rates by p(Yes) of the policy: the rest is asked, and no more."""
    keep, count = VerdictStore.keep, [0]

    def dying(self: VerdictStore, answers: Any) -> None:
        count[0] += 1
        if count[0] == 6:
            raise SystemExit(9)
        keep(self, answers)

    monkeypatch.setattr(VerdictStore, "keep", dying)
    with pytest.raises(SystemExit):
        rounds(folder, pairs_file, win_rates())
    before = kept()
    assert len(before) == 5
    rounds(folder, pairs_file, win_rates())
    assert kept()[:5] == before
    with sqlite3.connect("runs/judge.sqlite") as db:
        assert db.execute("SELECT count(*) - count(DISTINCT key) FROM judge_reply").fetchone() == (0,)
    assert len(kept()) == count[0] - 1
    samples = RoundStore(Path("run/rounds/rounds.sqlite")).samples(1)
    assert all(s.scores is not None and 0 < s.scores[0] < 1 for s in samples)


def test_its_replies_are_those_of_the_folder(folder: Path, tmp_path: Path) -> None:
    """A judge that writes: the live model replies as the same model does from disk."""
    backbone = Backbone(str(folder))
    local = LocalModel(backbone, max_tokens=8)
    model, tokenizer, _ = local.loaded
    encoder = Encoder(tokenizer, make_template(tokenizer), Truncation())
    live = LivePolicy(max_tokens=8)
    found = []
    for number, responder in enumerate((local, live)):
        judge = LanguageModelScorer(
            responder, JudgePrompt("self_rewarding", fences=False), store=str(tmp_path / f"{number}.sqlite")
        )
        judge.follow(Training(PolicyNow(model, tokenizer, encoder, PLAIN, backbone, "weights")))
        judge.score([ASKED] * 2, ["oak", "elm"])
        with sqlite3.connect(tmp_path / f"{number}.sqlite") as db:
            bodies = [json.loads(body) for (body,) in db.execute("SELECT body FROM judge_reply ORDER BY rowid")]
        found.append([body["choices"] for body in bodies])
    assert found[0] == found[1]
    assert len(found[0]) == 2 * 3  # no reply of a random model is a verdict: each is asked for three times
    names = []
    for weights in ("one", "two"):
        judge.follow(Training(PolicyNow(model, tokenizer, encoder, PLAIN, backbone, weights)))
        names.append((judge.identity, LanguageJudge(live).identity))
    assert names[0][0] != names[1][0]
    assert names[0][1] != names[1][1]


def test_without_a_model_in_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for asking in (lambda s: s.ready(), lambda s: s.score([ASKED] * 2, ["a", "b"])):
        with pytest.raises(ConfigError, match="LivePolicy is the model being trained"):
            asking(WinRates(ScorerJudge(YesProbability(LivePolicy()))))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "p", "completions": ["a", "b"]}) + "\n")
    words = ["--data", str(rows), "--out", "o.jsonl", "--scorer", "YesProbability"]
    assert main(["data", "rank", *words, "--scorer.responder", "LivePolicy"]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert "LivePolicy is the model being trained, in the scorer of the callback IterativeResampling" in told


def command(folder: Path, pairs: Path, *more: str) -> list[str]:
    """The shipped fragment, judged by p(Yes): a random model writes no verdict, and never ends by itself."""
    configs = [str(ROOT / "configs" / name) for name in ("method/dpo.yaml", "callbacks/self_rewarding.yaml")]
    words = ["fit", *(word for path in (*configs, CPU) for word in ("-c", path))]
    words += ["--data", "PreferenceFileDataModule", "--data.path", str(pairs), "--data.batching.groups", "2"]
    words += ["--model.backbone.path", str(folder), "--model.optimizer.learning_rate", "1e-2"]
    words += ["--trainer.callbacks.scorer", "YesProbability", "--trainer.callbacks.scorer.responder", "LivePolicy"]
    words += ["--trainer.callbacks.generation.max_new_tokens", "6", "--trainer.callbacks.prompts", "4"]
    return [*words, "--trainer.callbacks.missing_eos_penalty", "0.0", *more]


@pytest.mark.slow
def test_kills_under_the_shipped_fragment_change_nothing(folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    """While judging in the second round, and while training in it: same weights, samples, scores and replies."""
    words = command(folder, pairs_file, "--trainer.max_epochs", "3")
    runs = []
    for name in ("whole", "cut"):
        store = ["--trainer.callbacks.scorer.store", str(tmp_path / f"{name}.sqlite")]
        saving = [
            "--trainer.callbacks+",
            "align.callbacks.checkpoint.Checkpoint",
            "--trainer.callbacks.every_n_steps",
            "1",
        ]
        runs.append(Run(tmp_path / name, [*words, *store, *saving]))
    whole, cut = runs
    assert whole() == 0, whole.log
    journal = tmp_path / "journal"

    def dying() -> None:
        keep, count = VerdictStore.keep, [0]

        def kept_or_killed(self: VerdictStore, answers: Any) -> None:
            count[0] += 1
            keep(self, answers)
            if count[0] == 22:
                os.kill(os.getpid(), NINE)

        VerdictStore.keep = kept_or_killed  # type: ignore[method-assign]

    assert cut(prepare=dying) == KILLED, cut.log
    assert cut(("batch_end", 1, NINE), killing(journal, "", 0)) == KILLED, cut.log
    assert cut() == 0, cut.log
    check(whole, cut, journal)
    replies = []
    for name in ("whole", "cut"):
        with sqlite3.connect(tmp_path / f"{name}.sqlite") as db:
            replies.append(sorted(db.execute("SELECT key, attempt, body FROM judge_reply").fetchall()))
    assert replies[0] == replies[1]
