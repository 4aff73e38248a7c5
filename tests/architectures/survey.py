"""One type at a time, as a run uses it: every layout and every sample the self-check lets pass, against plain forwards."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM

from align.checks.layout_check import LOGPROBS, LayoutCheck, refuse_layouts
from align.checks.trust import CHECKED, OWN_ENGINE
from align.errors import AlignError, ModelError
from align.models.backbone import Backbone, DTypeName
from align.models.loading import load_policy
from align.records import CandidateBatch
from align.sampling.generation import Generation
from align.sampling.sampler import sample
from align.scoring import score_responses
from align.scoring.decoder import exact_layouts, unwrapped
from tests.architectures.shrunk import Variant, random_model
from tests.formulas.logprobs import plain_logprobs
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
    """One of `VERDICTS`."""
    layouts: str = ""
    """Those on offer, the one a run takes with a star; what the self-check refuses is marked."""
    difference: float = 0.0
    """Worst relative difference of a log-probability or of the whole gradient, over the layouts that pass."""
    sampling: str = ""
    """The engine that draws."""
    note: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name:28} {self.verdict:15} {self.layouts:22} {self.difference:8.1e}  {self.sampling:32} {self.note}"
        )


VERDICTS = {
    "right": "in the layout of its configuration, drawn by our own engine",
    "falls back": "right, in another layout or by another engine, which the self-check found",
    "refused": "in one line, before anything is trained",
    "not comparable": "a plain forward pass on token ids does not run, or goes backward only at random",
    "cannot be built": "from its configuration alone",
    "WRONG": "passes the self-check and is not what plain forward passes give, or crashes",
}


class _Tokens:
    """As much of a tokenizer as loading asks for."""

    def __len__(self) -> int:
        return 64


def survey(variant: Variant, folder: Path) -> Finding:
    """Build a type, load it as a run would, and compare."""
    name = str(variant)
    try:
        plain = random_model(variant)
    except (*BROKEN, ImportError, StrictDataclassError) as error:
        return Finding(name, "cannot be built", note=_line(error))
    try:
        plain(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False).logits.sum()
    except BROKEN as error:
        return Finding(name, "not comparable", note=_line(error))
    plain.save_pretrained(folder)
    return _as_in_a_run(name, folder, "float64" if _runs_in_float64(plain) else "float32")


def _as_in_a_run(name: str, folder: Path, dtype: DTypeName) -> Finding:
    """Load a folder as a run would, and compare."""
    try:
        model = load_policy(Backbone(str(folder), dtype=dtype), _Tokens())
    except AlignError as error:
        return Finding(name, "refused", note=_line(error).replace(f"backbone path {folder}: ", ""))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    batch = random_batch([2, 3, 1])
    try:
        expected = _run(plain, batch, lambda: plain_logprobs(plain, batch))
    except BROKEN as error:
        return Finding(name, "not comparable", note=_line(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what is left out, which the table shows
        try:
            offered, worst, notes = _scores(model, batch, *expected)
            engine, drawn = _drawn(model)
        except AlignError as error:
            return Finding(name, "refused", note=_line(error))
        except (*BROKEN, ImportError) as error:
            return Finding(name, "WRONG", note=f"crashes: {_line(error)}")
    if drawn != [_forwards(plain, prompt) for prompt in PROMPTS]:
        notes.append(f"{engine} draws other tokens")
    falls = engine != OWN_ENGINE or any("refused" in mark for mark in offered)
    verdict = "WRONG" if notes else "falls back" if falls else "right"
    return Finding(name, verdict, "/".join(offered), worst, engine, ", ".join(notes))


def _runs_in_float64(plain: Any) -> bool:
    try:
        copy.deepcopy(plain).double()(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False)
    except BROKEN:
        return False
    return True


def _scores(
    model: Any, batch: CandidateBatch, expected: torch.Tensor, gradient: torch.Tensor
) -> tuple[list[str], float, list[str]]:
    """Return what the self-check says of each layout, the worst difference of those that pass, and what is wrong.

    Raises ModelError where none passes.
    """
    check = LayoutCheck(model, LOGPROBS, gradients=True, everywhere=False)
    offered = exact_layouts(model, batch)
    taken = check(batch)
    refuse_layouts([unwrapped(model)], list(taken.refused))
    marks, worst, notes = [], 0.0, []
    for layout in offered:
        if layout in taken.refused or (layout != taken.layout and not _passes(check, batch, layout)):
            marks.append(f"{layout} refused")
            continue
        scores, own = _run(model, batch, partial(_ours, model, batch, layout))
        differences = {
            "score": float((scores - expected).abs().max() / expected.abs().max()),
            "gradient": float((own - gradient).norm() / gradient.norm()),
        }
        worst = max(worst, *differences.values())
        notes += [f"{layout} {kind} off by {d:.1e}" for kind, d in differences.items() if not d < TOLERANCE[own.dtype]]
        marks.append(f"{layout}*" if layout == taken.layout else layout)
    return marks, worst, notes


def _passes(check: LayoutCheck, batch: CandidateBatch, layout: str) -> bool:
    """Tell whether a run that asks for this layout goes on."""
    try:
        check(batch, layout)
    except ModelError:
        return False
    return True


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


def _drawn(model: Any) -> tuple[str, list[list[int]]]:
    """Return the engine the self-check chose, and what it draws. Raises ModelError where none passes."""
    settings = Generation(max_new_tokens=LENGTH, temperature=0)
    found = sample(model, tiny_tokenizer(), PROMPTS, settings, eos_ids=[1])
    return str(getattr(unwrapped(model), CHECKED)), [own.ids for own in found]


@torch.no_grad()
def _forwards(plain: Any, prompt: list[int]) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + LENGTH and (len(ids) == len(prompt) or ids[-1] != 1):
        ids.append(int(plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:250]
