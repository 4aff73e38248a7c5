"""One type at a time: scores and gradients of every layout offered, and greedy sampling, against plain forwards."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM

from align.errors import AlignError, ModelError
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.records import CandidateBatch
from align.sampling.generate import GenerateEngine
from align.sampling.generation import Generation, Request
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from align.scoring import score_responses
from align.scoring.backbone import choose_layout, exact_layouts
from tests.architectures.shrunk import Variant, random_model
from tests.oracles.logprobs import plain_logprobs
from tests.tiny import random_batch, tiny_tokenizer

PROMPTS = [[0, 40, 41, 42, 43], [0, 50], [0, 60, 61, 62, 63, 10, 20, 30, 11], [0, 33, 34, 5, 6]]
LENGTH = 8
TOLERANCE = {torch.float64: 1e-5, torch.float32: 2e-3}
"""Relative difference that passes; transformers computes parts of many models in float32."""


BROKEN = (AttributeError, TypeError, ValueError, RuntimeError, AssertionError, LookupError)
"""What models raise that do not run on token ids alone."""


class Finding(NamedTuple):
    """What one type shows."""

    name: str
    verdict: str
    """`right`, `refused`, `not comparable`, or `WRONG`."""
    layouts: str = ""
    difference: float = 0.0
    """Worst relative difference of a log-probability or of the whole gradient, over the layouts offered."""
    sampling: str = ""
    note: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name:28} {self.verdict:15} {self.layouts:22} {self.difference:8.1e}  {self.sampling:22} {self.note}"
        )


class _Tokens:
    """As much of a tokenizer as loading asks for."""

    def __len__(self) -> int:
        return 64


def survey(variant: Variant, folder: Path) -> Finding:
    """Build a type, load it as a run would, and compare."""
    name = str(variant)
    try:
        plain = random_model(variant)
        plain(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False).logits.sum()
    except (*BROKEN, ImportError, StrictDataclassError) as error:
        return Finding(name, "not comparable", note=_line(error))
    plain.save_pretrained(folder)
    dtype = "float64" if _runs_in_float64(plain) else "float32"
    try:
        model = load_policy(Backbone(str(folder), dtype=dtype), _Tokens())
    except AlignError as error:
        return Finding(name, "refused", note=_line(error))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    try:
        offered, worst, wrong = _scores(plain, model)
    except BROKEN as error:
        return Finding(name, "not comparable", note=_line(error))
    if all(layout.endswith("refused") for layout in offered):
        return Finding(name, "refused", "/".join(offered), note=wrong)
    sampling = _sampling(plain, model)
    bad = " off by " in wrong or "WRONG" in sampling
    return Finding(name, "WRONG" if bad else "right", "/".join(offered), worst, sampling, wrong)


def _runs_in_float64(plain: Any) -> bool:
    try:
        copy.deepcopy(plain).double()(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False)
    except BROKEN:
        return False
    return True


def _scores(plain: Any, model: Any) -> tuple[list[str], float, str]:
    """Return the layouts offered, the worst difference, and what was wrong without a word."""
    batch = random_batch([2, 3, 1])
    expected, gradient = _run(plain, batch, lambda: plain_logprobs(plain, batch))
    offered = exact_layouts(model, batch)
    auto = choose_layout(model, batch)
    marks, worst, notes, told = [], 0.0, [], ""
    for layout in offered:
        try:
            scores, own = _run(model, batch, partial(_ours, model, batch, layout))
        except ModelError as error:  # says so, and is left out from then on
            marks.append(f"{layout} refused")
            told = _line(error)
            continue
        differences = {
            "score": float((scores - expected).abs().max() / expected.abs().max()),
            "gradient": float((own - gradient).norm() / gradient.norm()),
        }
        worst = max(worst, *differences.values())
        notes += [f"{layout} {kind} off by {d:.1e}" for kind, d in differences.items() if not d < TOLERANCE[own.dtype]]
        marks.append(f"{layout}*" if layout == auto else layout)
    return marks, worst, ", ".join(notes) or told


def _ours(model: Any, batch: CandidateBatch, layout: str) -> torch.Tensor:
    return score_responses(model, batch, layout=layout).logprobs


def _run(model: Any, batch: CandidateBatch, score: Any) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    logprobs = score()
    (logprobs * torch.arange(1, batch.num_candidates + 1)).sum().backward()
    named = sorted(model.named_parameters())
    return logprobs.detach(), torch.cat(
        [(p.grad if p.grad is not None else p * 0).detach().flatten() for _, p in named]
    )


ENGINES: dict[str, Any] = {
    "own": TransformersEngine,
    "generate": GenerateEngine,
    "uncached generate": partial(GenerateEngine, cached=False),
}
"""By name, in the order in which a run tries them."""


def _sampling(plain: Any, model: Any) -> str:
    """Return the first engine that draws what plain forwards do, as the self-check of a run finds it."""
    expected = [_forwards(plain, prompt) for prompt in PROMPTS]
    settings = Generation(max_new_tokens=LENGTH, temperature=0)
    for name, build in ENGINES.items():
        try:
            found = Sampler(build(model, tiny_tokenizer(), [1]), settings).sample([Request.of_ids(p) for p in PROMPTS])
        except BROKEN:
            continue
        if [sample.ids for sample in found] == expected:
            return name
    return "WRONG"


@torch.no_grad()
def _forwards(plain: Any, prompt: list[int]) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + LENGTH and (len(ids) == len(prompt) or ids[-1] != 1):
        ids.append(int(plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
