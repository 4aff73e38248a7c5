"""`align benchmark world` gives what `evaluate_gold` gives, and a model is asked as its folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.cli.main import main
from align.evaluation.gold_evaluation import GREEDY, evaluate_gold
from align.models.condition_file import write_condition_file
from align.models.small import new_llama, word_tokenizer
from align.records import Instructions
from align.world.language import TAGS, vocabulary
from align.world.prompts import held_out_prompts
from align.world.universe import World


def save(folder: Path, seed: int) -> Path:
    tokenizer = word_tokenizer(vocabulary(), TAGS)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1}
    new_llama(tokenizer, **sizes, max_positions=256, tied=False, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_two_models_as_evaluate_gold_measures_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, policy = save(tmp_path / "base", 0), save(tmp_path / "policy", 1)
    texts = Instructions(*TAGS, placement="system")
    write_condition_file(texts, policy)
    words = [f"--models.base={base}", f"--models.policy={policy}", "--prompts", "{harmless: 3, harmful: 2}"]
    assert main(["benchmark", "world", *words, "--greedy", "true", "--out", "found.json"]) == 0
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
