"""Every causal model type of transformers is scored and sampled rightly, or refused in one line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.architectures.shrunk import TYPES, Variant, variants
from tests.architectures.survey import Finding, survey

PACKED = [
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "phi3", "granite", "cohere", "olmo2", "smollm3"),
    *("mixtral", "phimoe", "qwen3_moe", "deepseek_v3", "nemotron", "modernbert-decoder", "gpt2", "gpt_neox"),
]
"""Scored in packed rows on a CPU."""
PADDED = [
    "gemma2",
    "falcon_h1",
    "mamba",
    "jamba",
    "lfm2",
    "qwen3_next",
    "recurrent_gemma",
    "rwkv",
    "bloom",
    "doge",
    "gpt_oss",
]
"""Scored in padded or shared rows."""
TWO_WAY = ["bert", "roberta"]
INCOMPARABLE = {
    "blt": "makes patches of bytes with a second model",
    "dots3_note": "its nested configuration cannot be shrunk",
    "gemma3n": "needs the package timm",
    "gemma4_assistant": "drafts for another model",
    "gemma4_unified_assistant": "drafts for another model",
    "reformer": "goes backward only in train mode, where its hashes are drawn at random",
    "musicgen": "an encoder-decoder of sounds",
    "musicgen_melody": "an encoder-decoder of sounds",
}
"""Types that token ids alone do not run or build."""


def found(variant: Variant, folder: Path) -> Finding:
    finding = survey(variant, folder)
    print(finding)
    return finding


@pytest.mark.parametrize("name", PACKED)
def test_packed(name: str, tmp_path: Path) -> None:
    finding = found(Variant(name), tmp_path)
    assert (finding.verdict, "packed*" in finding.layouts) == ("right", True), finding


@pytest.mark.parametrize("name", PADDED)
def test_not_packed(name: str, tmp_path: Path) -> None:
    finding = found(Variant(name), tmp_path)
    assert finding.verdict == "right", finding


@pytest.mark.parametrize("name", TWO_WAY)
def test_two_way_models_are_refused_and_right_as_decoders(name: str, tmp_path: Path) -> None:
    finding = found(Variant(name), tmp_path / "two-way")
    assert finding.verdict == "refused"
    assert "two-way model" in finding.note
    assert found(Variant(name, decoder=True), tmp_path / "decoder").verdict == "right"


@pytest.mark.slow
def test_no_type_is_wrong_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(TYPES) > 150
    findings = {variant: survey(variant, tmp_path / str(i)) for i, variant in enumerate(variants())}
    with capsys.disabled():
        print("", *findings.values(), Counter(finding.verdict for finding in findings.values()), sep="\n")
    assert [str(finding) for finding in findings.values() if finding.verdict == "WRONG"] == []
    incomparable = {variant.name for variant, finding in findings.items() if finding.verdict == "not comparable"}
    assert incomparable <= set(INCOMPARABLE), incomparable
