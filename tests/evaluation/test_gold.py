"""Gold evaluation: canned samples with known rewards, KL against full forward passes, intervals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import align.evaluation.gold_evaluation as module
from align.evaluation.gold_evaluation import evaluate_gold, per_prompt
from align.evaluation.statistics import Interval
from align.models.small import new_llama, word_tokenizer
from align.sampling.generation import Generation, Sample
from align.world.gold_rewards import REWARDS, User, gold
from align.world.language import COMPLIANCE, TAGS, vocabulary
from align.world.optimum import best_response, best_value
from align.world.prompts import held_out_prompts
from align.world.universe import World

WORLD = World()
PROMPTS = held_out_prompts(WORLD, 12, 6)
TOKENIZER = word_tokenizer(vocabulary(), TAGS)
FEW = Generation(max_new_tokens=12, num_samples=3)


def model(seed: int = 0) -> Any:
    made = new_llama(TOKENIZER, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, tied=False, seed=seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return made.eval()


def canned(texts: list[str]) -> Any:
    return lambda *args, **options: [Sample(i, 0, [7], text, "eos") for i, text in enumerate(texts)]


def test_the_best_policy_reaches_the_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sample", canned([best_response(WORLD, p) for p in PROMPTS]))
    best = evaluate_gold(model(), TOKENIZER, WORLD, PROMPTS)
    assert best.reward.value == pytest.approx(best.best) == pytest.approx(best_value(WORLD, PROMPTS))
    assert (best.refusal_rate, best.true_facts, best.well_formed, best.kl) == (1.0, 1.0, 1.0, None)
    monkeypatch.setattr(module, "sample", canned([COMPLIANCE[0]] * len(PROMPTS)))
    bad = evaluate_gold(model(), TOKENIZER, WORLD, PROMPTS, user=User(verbosity=0.0))
    assert bad.reward.value == pytest.approx(-3 * 6 / 18)  # three for each of six harmful prompts, nothing else said
    assert bad.refusal_rate == 0.0
    assert math.isnan(bad.true_facts)
    assert best.share_of_optimum(bad) == pytest.approx(1.0)
    assert bad.share_of_optimum(bad) == 0.0


def test_means_are_those_of_the_answers() -> None:
    report = evaluate_gold(model(), TOKENIZER, WORLD, PROMPTS, generation=FEW)
    assert len(report.answers) == 3 * len(PROMPTS)
    golds = [gold(WORLD, a.prompt, a.text) for a in report.answers]
    assert report.reward.value == pytest.approx(np.mean([User().reward(g) for g in golds]))
    for i, name in enumerate(REWARDS):
        assert report.rewards[name].value == pytest.approx(np.mean([g[i] for g in golds]))
    again = evaluate_gold(model(), TOKENIZER, WORLD, PROMPTS, generation=FEW)
    assert report.answers == again.answers  # a function of its arguments
    assert report.reward == again.reward


def test_kl_is_the_mean_log_ratio_of_own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, base = model(), model(1)
    assert evaluate_gold(policy, TOKENIZER, WORLD, PROMPTS, generation=FEW, base=policy).kl == Interval(0.0, 0.0, 0.0)
    drawn: list[Sample] = []
    original = module.sample
    monkeypatch.setattr(module, "sample", lambda *a, **k: drawn.extend(original(*a, **k)) or drawn)
    report = evaluate_gold(policy, TOKENIZER, WORLD, PROMPTS, generation=FEW, base=base)
    ratios = []
    for found in drawn:
        messages = [m.as_turn() for m in PROMPTS[found.prompt]]
        prompt = TOKENIZER.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids = torch.tensor([list(prompt) + found.ids])
        with torch.no_grad():
            logs = [m(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for m in (policy, base)]
        taken = [log[torch.arange(len(found.ids)), torch.tensor(found.ids)].sum().item() for log in logs]
        ratios.append(taken[0] - taken[1])
    assert report.kl is not None
    assert report.kl.value == pytest.approx(np.mean(ratios), rel=1e-5)
    assert report.kl.low < report.kl.value < report.kl.high


def test_modes_are_put_back() -> None:
    policy = model().train()
    evaluate_gold(policy, TOKENIZER, WORLD, PROMPTS, generation=FEW, base=model(1))
    assert policy.training


def test_the_interval_is_over_prompts() -> None:
    """Samples of one prompt that agree do not narrow it: it is that of the prompts' means."""
    draw = np.random.default_rng(0)
    means = draw.normal(2.0, 1.0, 400)
    once = per_prompt(means.tolist(), list(range(400)))
    often = per_prompt(np.repeat(means, 8).tolist(), np.repeat(np.arange(400), 8).tolist())
    assert once == pytest.approx(often)
    half = 1.96 * means.std() / 20  # the normal interval
    assert (once.high - once.low) / 2 == pytest.approx(half, rel=0.1)
    assert per_prompt([1.0, 1.0], [0, 1]) == Interval(1.0, 1.0, 1.0)
    assert str(Interval(1.0, 0.5, 1.25)) == "1.000 [0.500, 1.250]"


def test_a_base_that_falls_short_is_refused(tmp_path: Path) -> None:
    import json

    from align.errors import ModelError
    from align.models.backbone import Backbone
    from align.models.folder_checks import BASE_REPORT
    from align.models.loading import load_policy

    made = model()
    made.save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    report = tmp_path / "base" / BASE_REPORT
    report.write_text(json.dumps({"faults": []}))
    load_policy(Backbone(str(tmp_path / "base")), TOKENIZER)
    report.write_text(json.dumps({"faults": ["true_facts 0.500 is below 0.8"]}))
    with pytest.raises(ModelError, match=r"falls short \(true_facts 0.500 is below 0.8\)"):
        load_policy(Backbone(str(tmp_path / "base")), TOKENIZER)
