"""Small models from scratch: tokenizers of bytes or words, and a Llama of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = (
    "{{ '<s>' }}{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] }}"
    "{{ '</s>' if m['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def byte_tokenizer() -> Any:
    """Return a tokenizer whose tokens are bytes, with a chat template: enough to try things out without a download."""
    special = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    return _wrapped(backend, CHATML, eos_token="<|im_end|>", pad_token="<|pad|>")


def word_tokenizer(words: Sequence[str], extra_tokens: Sequence[str] = ()) -> Any:
    """Return a tokenizer whose tokens are words, digits and punctuation marks, with a chat template.

    Args:
        words: The vocabulary; anything else becomes `<unk>`.
        extra_tokens: Tokens in angle brackets, such as instructions; they are text, not special.
    """
    special = ["<pad>", "<s>", "</s>", "<unk>", "<system>", "<user>", "<assistant>"]
    vocabulary = [*special, *extra_tokens, *"0123456789", *words]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    backend.add_special_tokens(special)
    backend.add_tokens(list(extra_tokens))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return _wrapped(backend, WORDS, **names)


def _wrapped(backend: Tokenizer, template: str, **names: str) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names)
    tokenizer.chat_template = template
    return tokenizer


def new_llama(
    tokenizer: Any,
    *,
    hidden_size: int = 128,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 4,
    max_positions: int = 1024,
    tied: bool = True,
    seed: int = 0,
) -> LlamaForCausalLM:
    """Return a Llama with random weights for a tokenizer; the global random stream is left as it was."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
