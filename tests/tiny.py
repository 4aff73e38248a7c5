"""Tiny models, tokenizers and batches that every test builds from seeds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from align.records import CandidateBatch, EncodedGroup

SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 128,
}
GATED = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GATED},
    "mistral": {"model_type": "mistral", **GATED, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", **GATED},
    "gemma": {"model_type": "gemma", **GATED, "head_dim": 8},
    "gemma2": {
        "model_type": "gemma2",
        **GATED,
        "head_dim": 8,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 5.0,
    },
    "cohere": {"model_type": "cohere", **GATED, "logit_scale": 0.25},
    "granite": {"model_type": "granite", **GATED, "logits_scaling": 4.0},
    "phi3": {"model_type": "phi3", **GATED},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 128},
    "pythia": {"model_type": "gpt_neox", **COMMON, "intermediate_size": 48},
    "opt": {"model_type": "opt", **COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32},
}
FEW_SAMPLES = [
    *("--trainer.callbacks+", "align.callbacks.samples.SampleTable", "--trainer.callbacks.num_prompts", "1"),
    *("--trainer.callbacks.generation.max_new_tokens", "2"),
]
"""In place of the table of every run: a tiny model never ends by itself."""


def tiny_config(family: str, **changes: Any) -> Any:
    settings = {**FAMILIES[family], "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, **changes}
    return AutoConfig.for_model(**settings)


def tiny_model(family: str = "llama", dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model whose weights are large enough that every part of the architecture shows in the logits."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **changes), dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def tiny_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Bytes as tokens, five special tokens, no merges; BOS is added by default."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def save_tiny(
    folder: Path,
    family: str = "llama",
    template: str | None = None,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    tokenizer = tiny_tokenizer(template)
    changes = {"vocab_size": len(tokenizer), "max_position_embeddings": 512, **changes}
    if family == "gpt2":
        changes["n_positions"] = changes.pop("max_position_embeddings")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family, **changes))
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_reward_model(
    folder: Path, seed: int = 0, outputs: tuple[str, ...] = ("reward",), max_position_embeddings: int = 512
) -> Path:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    changes = {"vocab_size": len(tokenizer), "max_position_embeddings": max_position_embeddings}
    config = tiny_config("llama", **changes, num_labels=len(outputs))
    config.id2label = dict(enumerate(outputs))
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "red", "birds", "under", "some", "tree", "near"]


def write_pairs(path: Path, count: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    text = lambda low, high: " ".join(draw.choices(WORDS, k=draw.randint(low, high)))  # noqa: E731
    rows = [
        {
            "prompt": f"{text(2, 12)} {i}?",
            "chosen": text(1, 9),
            "rejected": text(10, 15),
            "score_chosen": 1 + i % 3,
            "score_rejected": 0,
        }
        for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def random_batch(sizes: list[int], seed: int = 0, vocab: int = 60, longest: int = 9) -> CandidateBatch:
    """Groups of random ids with prompts and responses of different lengths, one-token responses among them."""
    draw = random.Random(seed)
    ids = lambda low, high: [draw.randrange(3, vocab) for _ in range(draw.randint(low, high))]  # noqa: E731
    groups = []
    for number, size in enumerate(sizes):
        responses = [ids(1, longest) for _ in range(size)]
        responses[0] = responses[0][:1] if number == 0 else responses[0]
        rest = {
            "ranks": list(range(size)),
            "scores": [[] for _ in range(size)],
            "weight": 1.0,
            "truncated": [False] * size,
        }
        groups.append(EncodedGroup(id=f"g{number}", prompt_ids=ids(1, 12), response_ids=responses, **rest))
    return CandidateBatch.of(groups)
