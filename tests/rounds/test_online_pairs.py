"""Online DPO and IPO: rounds of one optimiser step, the loss of TRL's trainer on the same samples, kills, bad data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from align.cli.main import main
from align.data.sampled_groups import DrawnPairs
from align.data.source import Report
from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.objectives.pairwise import DPO, IPO
from align.records import CandidateBatch, Example, Message
from align.rounds.pair_selections import BestWorst, DrawnPair
from align.rounds.round_file import read_round, write_round
from align.rounds.scored_samples import PromptSamples, ScoredSample
from align.sampling.generation import Finish, Generation
from tests.objectives.trl_models import OPTIONS, models, pairs, taken_gradient
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import random_kills
from tests.rounds.test_online import CONSTANT, run
from tests.tiny import tiny_tokenizer

__all__ = ["world_model"]
DRAWN = "align.rounds.pair_selections.DrawnPair"
END = 1
SAMPLES: list[tuple[str, list[tuple[list[int], float]]]] = [
    ("a", [([12, 13, END], 1.0), ([14, END], 2.0)]),
    ("bb", [([22, 23, 24, 25], 5.0), ([26, 27, END], 4.5)]),  # the first is cut off: 5.0 - 1.0 < 4.5
    ("c", [([31, END], 0.5), ([32, 33, 34, END], -1.0)]),
]
"""A prompt, and the tokens and reward of two samples of it; without an end a sample was cut off at its limit."""
PENALTY = 1.0


def prompt_samples() -> list[PromptSamples]:
    made = []
    for name, samples in SAMPLES:
        found = []
        for number, (ids, reward) in enumerate(samples):
            finish: Finish = "eos" if ids[-1] == END else "length"
            paid = reward - PENALTY * (finish == "length")
            found.append(ScoredSample(number, f"{name}{number}", finish, (reward,), paid, 0, tuple(ids)))
        example = Example(name, (Message("user", name),))
        made.append(PromptSamples(example, tuple(found), ("reward",)))
    return made


def round_batch(folder: Path, encoder: Encoder) -> CandidateBatch:
    """The samples as a round gives them to its method: selected, sealed, read back, viewed, encoded."""
    path = folder / "round.jsonl"
    sha256 = write_round(path, DrawnPair().build(prompt_samples(), Report()))
    groups: list[Any] = encoder.encode(DrawnPairs().apply(read_round(path, sha256), Report()))
    return CandidateBatch.of(groups)


def their_loss(policy: Any, frozen: Any, prompts: list[list[int]], folder: Path, loss_type: str) -> torch.Tensor:
    """One training step of TRL's trainer whose generation and rewards are ours; gradients are left in the policy."""
    from datasets import Dataset
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    args = OnlineDPOConfig(
        output_dir=str(folder),
        loss_type=loss_type,
        beta=0.2,
        missing_eos_penalty=PENALTY,
        max_length=100,
        max_new_tokens=9,
        **OPTIONS,
    )
    rewards = [samples[number][1] for number in (0, 1) for _, samples in SAMPLES]
    trainer = OnlineDPOTrainer(
        model=policy,
        ref_model=frozen,
        reward_funcs=lambda **_: rewards,
        args=args,
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=tiny_tokenizer(),
    )
    drawn = [torch.tensor(samples[number][0]) for number in (0, 1) for _, samples in SAMPLES]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([torch.tensor(p) for p in prompts] * 2, batch_first=True, padding_value=2, padding_side="left")
    mask = pad([torch.ones(len(p)) for p in prompts] * 2, batch_first=True, padding_side="left").long()
    completions = pad(drawn, batch_first=True, padding_value=2)
    there = pad([torch.ones(len(d)) for d in drawn], batch_first=True).long()
    trainer._generate = lambda *_, **__: (ids, mask, completions, there, None)
    policy.zero_grad()
    return trainer.training_step(policy, {"prompt": [name for name, _ in SAMPLES]})


@pytest.mark.parametrize(("loss_type", "objective"), [("sigmoid", DPO(0.2)), ("ipo", IPO(0.2, "sequence"))])
def test_loss_and_gradient_are_those_of_trl(loss_type: str, objective: Any, tmp_path: Path) -> None:
    policy, frozen = models(vocab_size=len(tiny_tokenizer()))
    tokenizer = tiny_tokenizer()
    encoder = Encoder(tokenizer, make_template(tokenizer), Truncation())
    batch = round_batch(tmp_path, encoder)
    prompts = [encoder.prompt_ids((Message("user", name),), "") for name, _ in SAMPLES]
    assert [ids[-1] == END for ids in torch.split(batch.response_ids, list(batch.response_lengths))].count(False) == 1
    theirs = their_loss(policy, frozen, prompts, tmp_path, loss_type)
    other = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    ours = objective(*pairs(policy, frozen, batch)).mean()
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-5, atol=1e-7)
    assert (taken_gradient(policy, ours) - other).norm() < 1e-4 * other.norm()


def test_texts_and_tokens_of_a_pair() -> None:
    """BestWorst keeps texts alone, but beside a sample that was cut off; both choose the same."""
    texts, tokens = (kind.build(prompt_samples(), Report()) for kind in (BestWorst(), DrawnPair()))
    assert [e.responses for e in texts] == [e.responses for e in tokens]
    assert tokens[1].response_ids == ((26, 27, END), (22, 23, 24, 25))
    assert [e.response_ids for e in texts] == [(), tokens[1].response_ids, ()]


def test_the_policy_learns_from_its_own_pairs(world_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every epoch is one optimiser step on new samples of twelve prompts, of which shorter ones are better."""
    module = DPOModule(Backbone(str(world_model)), DPO(0.1), optimizer=CONSTANT)
    drawing = Generation(max_new_tokens=8, num_samples=2)
    log = run(module, 24, groups=12, selection=DrawnPair(), generation=drawing, prompts=12)
    rewards = log.series("rounds/reward")
    assert len(log.series("train/loss")) == len(rewards) == 24
    assert rewards[0] < -6
    assert rewards[-1] > -3
    assert "11 records" in caplog.text  # equal rewards make no pair, and the step is smaller by it
    assert "fewer than a step has" not in caplog.text


def test_prompts_alone(tmp_path: Path, world_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data without a response serve, and are refused by name where a pair is needed."""
    words = command(world_model, "--trainer.max_epochs", "2", selection=DRAWN)
    prompts, place = tmp_path / "prompts.jsonl", words.index("SyntheticDataModule")
    prompts.write_text("\n".join(json.dumps({"prompt": f"{n}"}) for n in range(12)))
    words[place : place + 5] = ["PreferenceFileDataModule", "--data.path", str(prompts), "--data.view", "DrawnPairs"]
    words += ["--trainer.callbacks.scorer", "FunctionRewards", "--trainer.callbacks.direction.weights", "null"]
    words += ["--trainer.callbacks.scorer.function", "align.rewards.verifiable:matches"]
    words += ["--trainer.callbacks.scorer.arguments", "{pattern: ' a'}", "--data.splits.val_fraction", "0.3"]
    assert main([*words, "--trainer.default_root_dir", "one"]) == 2
    assert "no pair to compute a loss on: prompts alone" in capsys.readouterr().err
    assert main([*words, "--trainer.default_root_dir", "two", "--trainer.limit_val_batches", "0"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_many_random_kills(method: str, tmp_path: Path, world_model: Path) -> None:
    """In rounds of one step each."""
    more = ["--trainer.max_epochs", "3", "--trainer.callbacks.prompts", "4"]
    random_kills(tmp_path, command(world_model, *more, method=method, selection=DRAWN), 50)
