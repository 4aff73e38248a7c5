"""Model types that have no causal language model are refused by name, before their weights are looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    BartConfig,
    CLIPConfig,
    PreTrainedConfig,
    SiglipVisionConfig,
    T5Config,
    WhisperConfig,
)

from align.errors import ModelError
from align.models.backbone import Backbone
from align.models.loading import load_policy
from tests.tiny import tiny_tokenizer

TAKE = "take a causal language model, such as a Llama, Qwen or Mistral"
KINDS: list[tuple[PreTrainedConfig, str, str, str]] = [
    (T5Config(), "T5ForConditionalGeneration", "model type t5 is an encoder-decoder", TAKE),
    (BartConfig(), "BartForConditionalGeneration", "model type bart is an encoder-decoder", TAKE),
    (WhisperConfig(), "WhisperForConditionalGeneration", "model type whisper is an encoder-decoder", TAKE),
    (CLIPConfig(), "CLIPModel", "no causal language model of model type clip", TAKE),
    (SiglipVisionConfig(), "SiglipVisionModel", "no causal language model of model type siglip", TAKE),
]


def write_config(folder: Path, config: Any, architecture: str) -> Path:
    config.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": [architecture]}))
    return folder


@pytest.mark.parametrize(("config", "architecture", "what", "way_out"), KINDS, ids=[k[1] for k in KINDS])
def test_refused_by_name(config: Any, architecture: str, what: str, way_out: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path, config, architecture)
    with pytest.raises(ModelError) as refused:
        load_policy(Backbone(str(folder), random_init=True), tiny_tokenizer())
    told = str(refused.value)
    assert what in told
    assert f"its config.json names {architecture}" in told
    assert told.endswith(way_out)
