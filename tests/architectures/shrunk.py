"""Any causal model type of transformers, shrunk to a few thousand random weights by the names of its settings."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

TYPES: list[str] = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCAB = 64
SIZES: list[tuple[str, int]] = [
    (r"(depth|num_hidden_layers|n_layers?|num_layers|(en|de)coder_layers|num_(en|de)coder_layers|num_blocks)", 4),
    (r"(num_key_value_heads|num_kv_heads|n_head_kv|multi_query_group_num|swa_num_key_value_heads)", 2),
    (r"(num_attention_heads|n_heads?|num_heads|(en|de)coder_attention_heads|num_(en|de)coder_attention_heads)", 4),
    (r"(swa_num_attention_heads|encoder_n_heads)", 4),
    (
        r"(hidden_size|d_model|n_embd|embedding_size|word_embed_proj_dim|emb_dim|hidden_dim|lru_width|attention_hidden_size)",
        32,
    ),
    (r"(head_dim|v_head_dim|qk_nope_head_dim|attention_head_dim|kv_channels|global_head_dim|index_head_dim|d_kv)", 8),
    (
        r"(swa_head_dim|swa_v_head_dim|mamba_d_head|mamba_head_dim|mamba_headdim|linear_(key|value)_head_dim|dim_head)",
        8,
    ),
    (r"(qk_rope_head_dim|rotary_dim)", 4),
    (r"qk_head_dim", 12),
    (r"(kv_lora_rank|q_lora_rank|o_lora_rank)", 16),
    (r"(\w*intermediate_size|\w*ffn_dim|n_inner|ffn_hidden_size|feed_forward_size|d_inner|dff|ffn_hidden_dim)", 48),
    (r"(num_experts|n_routed_experts|num_local_experts|moe_num_experts|n_experts)", 4),
    (r"(num_experts_per_tok|num_experts_per_token|top_k_experts|moe_top_k|moe_topk|moe_k|num_selected_experts)", 2),
    (r"(n_group|topk_group|num_expert_group)", 1),
    (r"(mamba_d_state|state_size|ssm_state_size|d_state)", 8),
    (r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length)", 128),
    (r"(linear_num_key_heads|num_memory_blocks)", 2),
    (r"(linear_num_value_heads)", 4),
    (r"(index_topk)", 64),
    (r"(index_n_heads)", 2),
    (r"vocab_size\w*", VOCAB),
]
WINDOWS = r"(sliding_window|sliding_window_size|attention_chunk_size|window_size|attention_window_size|local_window|swa_window)"
MLA = {"num_key_value_heads": 4, "head_dim": 4}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * 2}
FIXED: dict[str, dict[str, Any]] = {
    "bamba": {**MAMBA, "attn_layer_indices": [1, 3]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "bailing_hybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "gemma3_text": SLIDING,
    "kolibri1": SLIDING,
    "inkling_text": {"layer_types": ["hybrid_sliding", "hybrid"] * 2},
    "inkling2_text": {"layer_types": ["hybrid_sliding", "hybrid"] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm3": {"layer_types": ["conv", "full_attention", "conv", "sliding_attention"]},
    "granitemoehybrid": {**MAMBA, "layer_types": ["linear_attention", "full_attention"] * 2},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64, "lm_head_multiplier": 0.5},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 8,
        "ngram_vocab_size_base": 50,
        "make_ngram_vocab_size_divisible_by": 8,
        "split_ngram_parts": 1,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {
        "num_hidden_layers": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "zamba2": {"num_key_value_heads": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "longcat_flash": {"zero_expert_num": 2, "expert_ffn_hidden_size": 48},
    "kimi_linear": {
        "num_experts": 4,
        "num_experts_per_token": 2,
        "linear_head_dim": 8,
        "linear_num_heads": 4,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "gemma4_unified_assistant": {"hidden_size_per_layer_input": 0},
    "gemma3n_text": {"num_hidden_layers": 10, "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "xmod": {"default_language": "en_XX"},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "xlnet": {"d_head": 8},
    "xglm": {"attention_heads": 4},
}
"""What one type needs beside, layers of every kind that it has with them; nested configurations are types of their own."""


class Variant(NamedTuple):
    """A type, and what is set other than by default."""

    name: str
    window: int | None = None
    """Replaces every attention window it has."""
    decoder: bool = False
    """Makes a two-way type look back only."""

    def __str__(self) -> str:
        marks = [f"window {self.window}"] * (self.window is not None) + ["decoder"] * self.decoder
        return " ".join([self.name, *marks])

    def config(self) -> Any:
        """Return a small configuration."""
        kind = CONFIG_MAPPING[self.name]
        changes = _changes(kind(), self.window)
        return kind(**changes, **({"is_decoder": True} if self.decoder else {}))


def variants() -> list[Variant]:
    """Return every type, those with attention windows again with a short one, two-way types again as decoders."""
    found = []
    for name in TYPES:
        found.append(Variant(name))
        try:
            config = found[-1].config()
        except (AttributeError, ValueError, StrictDataclassError):  # cannot be shrunk, which the survey says
            continue
        if Variant(name, 5).config().to_dict() != config.to_dict():
            found.append(Variant(name, 5))
        if getattr(config, "is_decoder", True) is False:
            found.append(Variant(name, decoder=True))
    return found


def _changes(whole: Any, window: int | None) -> dict[str, Any]:
    """Return the settings that make a configuration small; what follows from them is left to its class."""
    found: dict[str, Any] = {}
    settings = {field.name: vars(whole).get(field.name) for field in dataclasses.fields(whole)}
    for key, value in settings.items():
        if isinstance(value, PreTrainedConfig):
            found[key] = {**_changes(value, window), **({"model_type": value.model_type} if value.model_type else {})}
        elif isinstance(value, int) and not isinstance(value, bool):
            small = _small(key, value, window)
            if small != value:
                found[key] = small
    heads, kv = settings.get("num_attention_heads"), settings.get("num_key_value_heads")
    if heads == kv and "num_key_value_heads" in found:
        found["num_key_value_heads"] = 4
    if settings.get("kv_lora_rank"):
        found |= {key: value for key, value in MLA.items() if key in settings}
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    found |= {key: token for key, token in tokens.items() if key in settings}
    return {**found, **FIXED.get(whole.model_type, {})}


def _small(key: str, value: int, window: int | None) -> int:
    if re.fullmatch(WINDOWS, key):
        return window or 64
    if key.endswith(("token_id", "token_index")):
        return min(value, 3)
    return next((size for pattern, size in SIZES if re.fullmatch(pattern, key)), value)


def random_model(variant: Variant, **changes: Any) -> Any:
    """Return a float32 model whose weights are large enough that every part shows in the logits.

    `changes` are made to the settings of its language model.
    """
    torch.manual_seed(0)
    config = variant.config()
    for name, value in changes.items():
        setattr(config.get_text_config(), name, value)
    auto = AutoModelForCausalLM if variant.name in TYPES else AutoModelForImageTextToText
    model = auto.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape)
                parameter.copy_(0.15 * noise if parameter.dim() > 1 else parameter + 0.1 * noise)
    return model.eval()
