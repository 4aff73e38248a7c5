"""`align init model`: a small random Llama around an existing tokenizer, for trying things out without a download."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import FunctionVerb
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.small import byte_tokenizer, new_llama
from align.models.tokenizer import load_tokenizer


def init_model(
    tokenizer: str,
    out: str,
    *,
    hidden_size: int = 128,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 4,
    max_positions: int = 1024,
    seed: int = 0,
) -> None:
    """Write a Llama with random weights and the given tokenizer as an ordinary model folder.

    Args:
        tokenizer: Folder or hub id of the tokenizer, or `bytes` for one whose tokens are bytes.
        out: Folder to write.
        hidden_size: Width of the hidden states.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Heads per block; must divide hidden_size.
        max_positions: Longest sequence, in tokens.
        seed: Seed of the weights.
    """
    if hidden_size % num_attention_heads:
        raise ConfigError(f"num_attention_heads {num_attention_heads} does not divide hidden_size {hidden_size}")
    if (Path(out) / "config.json").exists():
        raise ConfigError(f"{out} already holds a model: name another folder")
    loaded = byte_tokenizer() if tokenizer == "bytes" else load_tokenizer(Backbone(tokenizer))
    model = new_llama(
        loaded,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        max_positions=max_positions,
        seed=seed,
    )
    model.save_pretrained(out)
    loaded.save_pretrained(out)
    print(f"{out}: Llama with {model.num_parameters():,} parameters, {len(loaded):,} tokens")


VERB = FunctionVerb(init_model)
