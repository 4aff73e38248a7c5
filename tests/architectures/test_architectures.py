"""Every causal model type of transformers is scored and sampled rightly, or refused in one line."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tests.architectures.shrunk import Variant, variants
from tests.architectures.survey import VERDICTS, Finding, survey

PACKED = [
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "phi3", "granite", "cohere", "olmo2", "smollm3"),
    *(
        "gemma2",
        "gpt_oss",
        "mixtral",
        "phimoe",
        "qwen3_moe",
        "deepseek_v3",
        "nemotron",
        "modernbert-decoder",
        "gpt2",
        "gpt_neox",
    ),
]
"""Scored in packed rows on a CPU."""
PADDED = [
    "falcon_h1",
    "mamba",
    "jamba",
    "lfm2",
    "qwen3_next",
    "recurrent_gemma",
    "rwkv",
    "bloom",
    "doge",
]
"""Scored in padded or shared rows."""
RIGHT = ("right", "falls back")
TWO_WAY = ["bert", "roberta"]
UNTRIED = {
    "blt": "makes patches of bytes with a second model",
    "dots3_note": "its nested configuration cannot be shrunk",
    "gemma3n": "needs the package timm",
    "gemma4_assistant": "drafts for another model",
    "gemma4_unified_assistant": "drafts for another model",
    "reformer": "goes backward only in train mode, where its hashes are drawn at random",
    "musicgen": "an encoder-decoder of sounds",
    "musicgen_melody": "an encoder-decoder of sounds",
}
"""Types that token ids alone do not run or build, and why."""


def found(variant: Variant, folder: Path) -> Finding:
    finding = survey(variant, folder)
    print(finding)
    return finding


@pytest.mark.parametrize("name", PACKED)
def test_packed(name: str, tmp_path: Path) -> None:
    finding = found(Variant(name), tmp_path)
    assert finding.verdict in RIGHT, finding
    assert "packed*" in finding.layouts, finding


@pytest.mark.parametrize("name", PADDED)
def test_not_packed(name: str, tmp_path: Path) -> None:
    finding = found(Variant(name), tmp_path)
    assert finding.verdict in RIGHT, finding


@pytest.mark.parametrize("name", TWO_WAY)
def test_two_way_models_are_refused_and_right_as_decoders(name: str, tmp_path: Path) -> None:
    finding = found(Variant(name), tmp_path / "two-way")
    assert finding.verdict == "refused"
    assert "two-way model" in finding.note
    assert found(Variant(name, decoder=True), tmp_path / "decoder").verdict in RIGHT


@pytest.mark.slow
def test_no_type_is_wrong_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table: every type by itself, which sum up to all there are, then with short windows and as decoders."""
    findings: dict[Variant, Finding] = {}
    for i, variant in enumerate(variants()):
        findings[variant] = survey(variant, tmp_path / str(i))
        with capsys.disabled():
            print(findings[variant], UNTRIED.get(variant.name, ""), flush=True)
        shutil.rmtree(tmp_path / str(i), ignore_errors=True)
    types = Counter(finding.verdict for variant, finding in findings.items() if variant == Variant(variant.name))
    others = Counter(finding.verdict for variant, finding in findings.items() if variant != Variant(variant.name))
    with capsys.disabled():
        print(
            *(f"{types[verdict]:4} + {others[verdict]:3} {verdict}: {told}" for verdict, told in VERDICTS.items()),
            sep="\n",
        )
        print(f"{types.total():4} types of AutoModelForCausalLM, + {others.total()} with short windows or as decoders")
    assert types.total() == len(MODEL_FOR_CAUSAL_LM_MAPPING)
    assert [str(finding) for finding in findings.values() if finding.verdict == "WRONG"] == []
    untried = {v.name for v, finding in findings.items() if finding.verdict in ("not comparable", "cannot be built")}
    assert untried == set(UNTRIED)
