"""Models by their shape alone: random weights, made where they are trained, and a tokenizer of bytes beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

SPECIAL = ["<s>", "</s>", "<pad>"]
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}


@dataclass(frozen=True)
class Shape:
    """The widths of a model."""

    family: type
    sizes: dict[str, int]
    tied: bool = False

    @property
    def config(self) -> Any:
        """Return the configuration; no token of the data ends a response before its time."""
        ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        return self.family(max_position_embeddings=8192, tie_word_embeddings=self.tied, **ends, **self.sizes)

    def tiny(self) -> Shape:
        """Return the same family in a size for a CPU."""
        return Shape(self.family, TINY, self.tied)

    def folder(self, place: Path) -> str:
        """Write configuration and tokenizer, and return the folder's path."""
        config = self.config
        config.architectures = [self.family.__name__.replace("Config", "ForCausalLM")]
        config.save_pretrained(place)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*SPECIAL, *alphabet])}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        tokens = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
        PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(place)
        return str(place)


QWEN_HALF_B = Shape(
    Qwen2Config,
    {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    tied=True,
)
LLAMA_8B = Shape(
    LlamaConfig,
    {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
)
CHECKED = Shape(
    LlamaConfig,
    {
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 32000,
    },
)
"""A shape on which layouts are compared."""
