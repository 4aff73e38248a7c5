"""The engine for a model in this process: the first whose tokens a plain forward pass would take too."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from align.checks.layouts import BROKEN
from align.checks.plain import plain_attention, plain_logits
from align.checks.rows import tokens_to_check
from align.checks.tolerance import compute_dtype
from align.checks.trust import CHECKED, OWN_ENGINE
from align.errors import ModelError, shorten
from align.models.adapters import evaluating
from align.sampling.engine import Engine
from align.sampling.generate import GenerateEngine
from align.sampling.generation import Completion, Generation, Job, Request
from align.sampling.local import TransformersEngine
from align.scoring.backbone import unwrapped

Make = Callable[[nn.Module, Any, Sequence[int], Sequence[str]], Engine]
ENGINES: dict[str, Make] = {
    OWN_ENGINE: TransformersEngine,
    "generate of transformers": GenerateEngine,
    "a plain forward pass per token": lambda *parts: GenerateEngine(*parts, cached=False),
}
"""By the name a warning calls them, the fastest first."""
GREEDY = Generation(max_new_tokens=3, temperature=0.0)
GAPS = {torch.float64: 1e-3, torch.float32: 1e-2, torch.float16: 0.1, torch.bfloat16: 0.5}
"""How far below the highest logit, in nats, the token of a right engine may lie in a plain forward pass: rounding."""


class LocalEngine(Engine):
    """Draws with the first engine that passes, which is looked for once per model, on the first prompts asked for.

    Greedy completions, two of each prompt, are read by plain forward passes of transformers: every token has to be the
    most probable one. Raises ModelError for a model that no engine draws from rightly.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self.model, self.tokenizer, self.eos_ids, self.stop = model, tokenizer, eos_ids, stop

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job."""
        make = ENGINES[self.check([job.request.ids for job in jobs])]
        return make(self.model, self.tokenizer, self.eos_ids, self.stop).generate(jobs, settings, round_number)

    def check(self, prompts: Sequence[Sequence[int]]) -> str:
        """Find the engine for the model, if that was not done yet, and return its name."""
        inner = unwrapped(self.model)
        if hasattr(inner, CHECKED):
            return str(getattr(inner, CHECKED))
        asked = _few(inner, prompts)
        faults: dict[str, str] = {}
        for name, make in ENGINES.items():
            fault = self._fault(make, asked)
            if fault is None:
                break
            faults[name] = fault
        else:
            told = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
            raise ModelError(
                f"model type {inner.config.model_type}: no engine draws what a plain forward pass would "
                f"({told}): take another model, or an engine outside this process (vllm, a server)"
            )
        if faults:
            told = "; ".join(f"{left_out}: {fault}" for left_out, fault in faults.items())
            warnings.warn(f"self-check: {name} draws, which agrees with plain forward passes ({told})", stacklevel=2)
        setattr(inner, CHECKED, name)
        return name

    @torch.no_grad()
    def _fault(self, make: Make, prompts: list[list[int]]) -> str | None:
        """Return what is wrong with an engine, None where nothing is."""
        jobs = [Job(place, Request.of_ids(ids), range(2)) for place, ids in enumerate(prompts)]
        try:
            drawn = make(self.model, self.tokenizer, (), ()).generate(jobs, GREEDY)
        except torch.OutOfMemoryError:
            raise
        except BROKEN as error:
            return f"does not run ({type(error).__name__}: {shorten(error, 120)})"
        rows = {(*prompt, *found.ids): len(prompt) for prompt, own in zip(prompts, drawn, strict=True) for found in own}
        gap = max(itertools.starmap(self._gap, rows.items()))
        if gap <= GAPS[compute_dtype(self.model)]:
            return None
        return f"takes a token that lies {gap:.2g} nats below the most probable one"

    def _gap(self, row: Sequence[int], begin: int) -> float:
        """Return how far the tokens of a completion lie below the most probable ones at most."""
        ids = torch.tensor(list(row), device=next(self.model.parameters()).device)
        with evaluating(self.model), plain_attention(self.model):
            logits = plain_logits(self.model, ids[None])[0, begin - 1 : -1].double()
        gaps = logits.max(-1).values - logits.gather(1, ids[begin:, None])[:, 0]
        return float(gaps.max().nan_to_num(nan=torch.inf))


def _few(inner: Any, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the shortest and the longest of the first prompts, cut from the left."""
    by_length = sorted(map(list, prompts[:64]), key=len)
    room = (getattr(inner.config.get_text_config(), "max_position_embeddings", None) or 10**9) - GREEDY.max_new_tokens
    most = max(min(tokens_to_check(inner) // 2, room), 1)
    shortest, longest = by_length[0][-most:], by_length[-1][-most:]
    return [shortest[: max(len(shortest) // 2, 1)], longest] if len(shortest) == len(longest) else [shortest, longest]
