"""Recipes: every one parses with every method, is sized by the configuration of its shape, and trains that architecture."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from align.cli.main import main
from align.evaluation.run_reader import read_series
from benchmarks.recipes import MODES, PAGE, SHAPES, rows, settings_of, sized
from tests.docs.test_commands import parse, parser_of
from tests.test_configs import CPU, ROOT

RECIPES = sorted(path.stem for path in (ROOT / "configs" / "recipe").glob("*.yaml"))
METHODS = ("sft", "reward_model", "dpo", "pro", "rahf_dual_stage1", "dpa")
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TEMPLATE = (
    "{% if enable_thinking is defined and not enable_thinking %}<plain>{% endif %}{% for m in messages %}<{{ m.role }}>"
    "{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
QUICK = ("qwen3_0_6b", "gemma_3_1b_it")


def test_every_recipe_has_a_shape() -> None:
    assert sorted(SHAPES) == RECIPES


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=() if method == "dpo" or name == QUICK[0] else pytest.mark.slow)
        for name in RECIPES
        for method in METHODS
    ],
)
def test_it_parses_with_every_method(name: str, method: str) -> None:
    data = ["--data", "PreferenceFileDataModule", "--data.path", "pairs.jsonl"]
    for mode in ([], ["-c", "bfloat16_lora"], ["-c", "qlora"]):
        assert parse(["fit", "-c", method, *data, "-c", f"recipe/{name}", *mode]) == 0
        backbone = parser_of("fit").config["fit"].model.init_args.backbone
        assert (backbone.dtype, backbone.quantization) == ("bfloat16", "nf4" if "qlora" in mode else None)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_table_says_what_is_counted(name: str, tmp_path: Path) -> None:
    table = PAGE.read_text(encoding="utf-8")
    for row in rows(name, tmp_path):
        assert row in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama_3_1_8b_instruct", 8.03),
        ("llama_3_3_70b_instruct", 70.55),
        ("qwen3_0_6b", 0.596),
        ("qwen3_8b", 8.19),
        ("qwen3_32b", 32.76),
        ("gemma_3_1b_it", 1.0),
        ("mistral_7b_instruct", 7.25),
        ("smollm2_1_7b_instruct", 1.71),
        ("smollm3_3b", 3.08),
        ("olmo_2_7b_instruct", 7.3),
    ],
)
def test_shapes_have_the_parameters_that_model_cards_name(name: str, billions: float, tmp_path: Path) -> None:
    run, _ = sized(name, next(iter(MODES)), tmp_path)
    assert run.weights.parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in RECIPES])
def test_its_architecture_trains_two_steps(name: str, pairs_file: Path, tmp_path: Path) -> None:
    """DPO with adapters on a shrunken model, from ln 2; rows stay within the window of 512."""
    shape = SHAPES[name]
    sizes = {**TINY, "vocab_size": 512} | ({"head_dim": 16} if "head_dim" in shape.sizes else {})
    folder = dataclasses.replace(shape, sizes={**shape.sizes, **sizes}).folder(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    given = [
        "fit",
        "-c",
        "dpo",
        "--data",
        "PreferenceFileDataModule",
        "--data.path",
        str(pairs_file),
        "-c",
        f"recipe/{name}",
    ]
    model = ["--model.backbone.path", folder, "--model.backbone.random_init", "true", "-c", "bfloat16_lora", "-c", CPU]
    steps = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--data.batching.groups", "4"]
    assert main([*given, *model, *steps, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    losses = read_series(tmp_path / "run")["train/loss"].values
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert len(losses) == 2
    assert settings_of(name)[1] >= 8192
