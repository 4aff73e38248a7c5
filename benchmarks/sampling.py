"""Sampling n responses per prompt, against `generate` of transformers, in turns: `python -m benchmarks.sampling`."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jsonargparse import auto_cli
from transformers import StoppingCriteria

from align.encoding.encoder import Encoder
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.records import Message
from align.sampling.decoding_rows import Rows
from align.sampling.generation import Generation, Request
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from benchmarks.compare import measure, median
from benchmarks.meter import Clock

Kind = Literal["long", "hh"]
Side = Literal["align", "generate"]
LONG = range(300, 501)


class Task(NamedTuple):
    """Prompts, and how long each of their samples is."""

    prompts: list[list[int]]
    lengths: list[list[int]]

    @property
    def tokens(self) -> int:
        """Return the tokens to draw."""
        return sum(map(sum, self.lengths))


def compare(folder: str = "runs/benchmarks", *, n: int = 16, prompts: int = 8, repeats: int = 3) -> None:
    """Draw samples of long prompts, 32 tokens each, and of HH-RLHF's prompts, as long as its responses, up to 48.

    Random weights never end a response, so each sample ends after the length of a real one; both sides know it.

    Args:
        folder: What `benchmarks.prepare` wrote.
        n: Samples per prompt.
        prompts: Prompts of each kind.
        repeats: Rounds.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for kind in ("long", "hh"):
            for side in ("align", "generate"):
                words = ["--side", side, "--kind", kind, "--folder", folder, "--n", str(n), "--prompts", str(prompts)]
                command = [sys.executable, "-m", "benchmarks.sampling", "side", *words]
                results.setdefault(f"{kind} {side}", []).append(measure(command))
    for kind in ("long", "hh"):
        ours, theirs = median(results[f"{kind} align"]), median(results[f"{kind} generate"])
        tokens = results[f"{kind} align"][0]["tokens"]
        print(
            f"{kind}: align {tokens / ours['cpu_s']:.0f} tokens per CPU-s, {ours['peak_gb']:.2f} GB; generate "
            f"{tokens / theirs['cpu_s']:.0f}, {theirs['peak_gb']:.2f} GB; {theirs['cpu_s'] / ours['cpu_s']:.2f} x in "
            f"CPU, {theirs['wall_s'] / ours['wall_s']:.2f} x in wall time"
        )
    (Path(folder) / "sampling.json").write_text(json.dumps(results, indent=1) + "\n")


def side(side: Side, kind: Kind, *, folder: str, n: int, prompts: int) -> None:
    """Run one side and print what it measured."""
    backbone = Backbone(str(Path(folder) / "model"))
    tokenizer = load_tokenizer(backbone)
    model: Any = load_policy(backbone, tokenizer).eval()
    work = task(Path(folder) / "pairs.jsonl", tokenizer, kind, n, prompts)
    draw = with_align if side == "align" else with_generate
    draw(model, tokenizer, Task(work.prompts[:1], [[2] * n]))  # warm up
    clock = Clock()
    clock.start()
    drawn = draw(model, tokenizer, work)
    clock.stop(tokens=work.tokens, drawn=drawn)


def task(pairs: Path, tokenizer: Any, kind: Kind, n: int, count: int) -> Task:
    """Return the first prompts of a kind, and lengths drawn from the responses of all pairs."""
    encoder = Encoder(tokenizer, make_template(tokenizer), Truncation(None, 4096))
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    ids = [encoder.prompt_ids([Message(**m) for m in row["prompt"]]) for row in rows]
    if kind == "long":
        joined = [ids[i] + ids[(i + 1) % len(ids)] for i in range(len(ids))]  # dialogues that go on and on
        ids = [p for p in ids + joined if len(p) in LONG]
        return Task(ids[:count], [[32] * n] * count)
    texts = [row[name][0]["content"] for row in rows for name in ("chosen", "rejected")]
    real = [min(len(tokenizer(text)["input_ids"]) + 1, 48) for text in texts]
    drawn = random.Random(1)
    return Task(ids[:count], [[drawn.choice(real) for _ in range(n)] for _ in range(count)])


class KnownLengths(TransformersEngine):
    """The engine, with the length of every sample as its limit."""

    def __init__(self, model: Any, tokenizer: Any, lengths: list[list[int]]) -> None:
        super().__init__(model, tokenizer, [-1])
        self.lengths = lengths

    def _decode(self, rows: Rows) -> None:
        limits = [self.lengths[job.place][k] for job in rows.jobs for k in job.numbers]
        for row, limit in zip(rows.rows, limits, strict=True):
            row.limit = limit
        super()._decode(rows)


def with_align(model: Any, tokenizer: Any, work: Task) -> int:
    """Sample with ours; return the tokens drawn."""
    settings = Generation(max_new_tokens=max(map(max, work.lengths)), num_samples=len(work.lengths[0]))
    requests = [Request(str(i), ids) for i, ids in enumerate(work.prompts)]
    found = Sampler(KnownLengths(model, tokenizer, work.lengths), settings).sample(requests)
    return sum(len(s.ids) for s in found)


class AllDone(StoppingCriteria):  # type: ignore[misc]
    """Ends `generate` when the last of its rows has ended."""

    def __init__(self, prompt: int, lengths: list[int]) -> None:
        self.prompt, self.lengths = prompt, torch.tensor(lengths)

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
        return self.lengths <= input_ids.shape[1] - self.prompt


def with_generate(model: Any, tokenizer: Any, work: Task) -> int:
    """Sample with `generate`; return the tokens drawn, those after a row's end left out."""
    drawn = 0
    for ids, lengths in zip(work.prompts, work.lengths, strict=True):
        output = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            **{"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": None},
            **{"num_return_sequences": len(lengths), "max_new_tokens": max(lengths), "pad_token_id": 0},
            stopping_criteria=[AllDone(len(ids), lengths)],
        )
        assert output.shape == (len(lengths), len(ids) + max(lengths))
        drawn += sum(lengths)
    return drawn


if __name__ == "__main__":
    if sys.argv[1:2] == ["side"]:
        auto_cli(side, args=sys.argv[2:], as_positional=False)
    else:
        auto_cli(compare, as_positional=False)
