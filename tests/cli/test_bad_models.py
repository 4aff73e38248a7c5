"""Adapters, configurations, tokenizers and templates that are damaged or hostile are one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.bad_input


class TestModels:
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
            ({"num_hidden_layers": 1}, "what the model has no place for would be lost"),
            ({"num_hidden_layers": 9}, "what is missing would be drawn at random"),
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
