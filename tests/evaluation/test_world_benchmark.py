"""`align benchmark world` gives what `evaluate_gold` gives, and a model is asked as its folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.errors import ConfigError
from align.evaluation.gold_evaluation import GREEDY, evaluate_gold
from align.evaluation.world_benchmark import WorldPrompts
from align.models.condition_file import write_condition_file
from align.models.small import new_llama, word_tokenizer
from align.records import Instructions
from align.world.gold_rewards import request_of
from align.world.language import TAGS, vocabulary
from align.world.prompts import held_out_prompts
from align.world.universe import World


def save(folder: Path, seed: int) -> Path:
    tokenizer = word_tokenizer(vocabulary(), TAGS)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1}
    model = new_llama(tokenizer, **sizes, max_positions=256, tied=False, seed=seed)
    model.config.synthetic_world = World().settings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_two_models_as_evaluate_gold_measures_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, policy = save(tmp_path / "base", 0), save(tmp_path / "policy", 1)
    texts = Instructions(*TAGS, placement="system")
    write_condition_file(texts, policy)
    words = [f"--models.base={base}", f"--models.policy={policy}", "--prompts", "{harmless: 3, harmful: 2}"]
    assert (
        main(
            [
                "benchmark",
                "world",
                *words,
                "--held_out_entities",
                "true",
                "--matched_base",
                "false",
                "--out",
                "found.json",
            ]
        )
        == 0
    )
    found = json.loads(Path("found.json").read_text())["models"]
    assert f"asked for: {TAGS[0]}" in capsys.readouterr().err
    tokenizer, world, prompts = AutoTokenizer.from_pretrained(base), World(), held_out_prompts(World(), 3, 2)
    loaded = {name: AutoModelForCausalLM.from_pretrained(path) for name, path in (("base", base), ("policy", policy))}
    asked = [texts.apply(prompt, "positive") for prompt in prompts]
    expected = evaluate_gold(loaded["policy"], tokenizer, world, prompts, base=loaded["base"], asked=asked)
    plain = evaluate_gold(loaded["base"], tokenizer, world, prompts)
    own = found["policy"]
    assert (own["reward"], own["kl"], own["low"]) == pytest.approx(
        (expected.reward.value, expected.kl.value if expected.kl else 0, expected.reward.low)
    )
    assert own["rewards"] == pytest.approx([answer.reward for answer in expected.answers])
    assert own["share"] == pytest.approx(expected.share_of_optimum(plain))
    greedy = evaluate_gold(loaded["policy"], tokenizer, world, prompts, generation=GREEDY, asked=asked)
    assert own["greedy"] == pytest.approx(greedy.reward.value)
    assert (found["base"]["share"], found["base"]["kl"]) == (0, pytest.approx(0, abs=1e-4))


def test_a_model_that_is_only_sharper_has_no_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice the logits of the base are the base at temperature .5, token by token and sample by sample."""
    base = save(tmp_path / "base", 0)
    model = AutoModelForCausalLM.from_pretrained(base)
    for folder, factor in (("base", 40.0), ("sharper", 2.0), ("flat", 1e-6)):
        model.lm_head.weight.data *= factor  # of random weights, whose logits are next to nothing
        model.save_pretrained(tmp_path / folder)
        AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / folder)
    words = [f"--models.{name}={tmp_path / name}" for name in ("base", "sharper", "flat")]
    few = ["--prompts", "{harmless: 4, harmful: 2}", "--temperatures", "[0.5]", "--out", "found.json"]
    assert main(["benchmark", "world", *words, *few]) == 0
    content = json.loads(Path("found.json").read_text())
    found = content["models"]
    matched = found["sharper"]["base_at_equal_entropy"]
    assert matched["temperature"] == pytest.approx(0.5, abs=0.02)
    assert matched["entropy"] == pytest.approx(found["sharper"]["entropy"], abs=0.01)
    cooled = found["base"]["temperatures"]["0.5"]
    assert found["sharper"]["by_prompt"]["reward"] == pytest.approx(cooled["by_prompt"]["reward"])
    own = found["base"]["base_at_equal_entropy"]
    assert (own["temperature"], own["gain"], own["gain_low"], own["kl"]) == (1, 0, 0, pytest.approx(0, abs=1e-6))
    assert len(content["entities"]) == len(matched["by_prompt"]["gain"]) == 6
    moved = found["sharper"]["base_at_equal_kl"]  # what moved it is the temperature: the same one
    assert moved["temperature"] == pytest.approx(0.5, abs=0.02)
    assert moved["kl"] == pytest.approx(found["sharper"]["kl"], abs=0.05)
    unreached = found["flat"]["base_at_equal_entropy"]  # as many tokens are as likely: hotter than any temperature
    assert (unreached["temperature"], unreached["gain"]) == (None, None)
    said = capsys.readouterr().out
    assert "flat: no temperature of the first model has its entropy: expected a value from" in said
    assert "greedy" not in found["base"]


def test_temperatures_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "world", "--models", f"[{tmp_path}]", "--temperatures", "[-1]"]) == 2
    assert "temperatures must not be negative, got [-1.0]" in capsys.readouterr().err


def test_prompts_that_come_after_others_are_other_ones() -> None:
    first, later = WorldPrompts(20, 8).of(World()), WorldPrompts(10, 4, after=20).of(World())
    assert len(set(later)) == 14
    assert not set(first) & set(later)
    harmful = [request_of(World(), prompt).harmful for prompt in later]
    assert harmful == [False] * 10 + [True] * 4
    with pytest.raises(ConfigError, match=r"prompts\.after must not be negative, got -1"):
        WorldPrompts(after=-1)
