"""The model and the pairs a benchmark runs on, from any HH-RLHF file: `python -m benchmarks.prepare --help`."""

from __future__ import annotations

import json
import random
from pathlib import Path

from jsonargparse import auto_cli
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from align.data.hh_rlhf import HHRLHF
from align.data.source import Report
from align.data.views import Pairs
from align.models.small import new_llama
from align.records import Example

SPECIAL = ["<s>", "</s>", "<pad>"]


def prepare(
    data: str,
    out: str = "runs/benchmarks",
    *,
    pairs: int = 80,
    vocab_size: int = 8192,
    hidden_size: int = 384,
    num_hidden_layers: int = 8,
    seed: int = 1,
) -> None:
    """Write `model/` (a random Llama with a byte-pair tokenizer trained on the data) and `pairs.jsonl`.

    Args:
        data: HH-RLHF file or folder.
        out: Folder to write.
        pairs: Pairs to draw; ten steps of eight by default, two of them warm-up.
        vocab_size: Words of the tokenizer.
        hidden_size: Width of the model, in heads of 64.
        num_hidden_layers: Blocks of the model.
        seed: Seed of the draw.
    """
    source, report = HHRLHF(data), Report()
    rows = [example for split in source.split_names() for example in source.read(split, report)]
    examples = Pairs().apply(rows, report)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(examples, vocab_size)
    model = new_llama(
        tokenizer,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=hidden_size // 64,
        max_positions=4096,
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    drawn = random.Random(seed).sample(examples, pairs)
    lines = [json.dumps(row(example)) for example in drawn]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{folder}: {model.num_parameters():,} parameters, {len(drawn)} of {len(examples)} pairs")


def train_tokenizer(examples: list[Example], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on all texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = (text for e in examples for text in (*(m.content for m in e.messages), *e.responses))
    backend.train_from_iterator(texts, trainer)
    names = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def row(example: Example) -> dict[str, object]:
    """Return a pair as a row of a preference file."""
    prompt = [{"role": m.role, "content": m.content} for m in example.messages]
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in example.responses)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


if __name__ == "__main__":
    auto_cli(prepare, as_positional=False)
