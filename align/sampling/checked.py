"""The engine for a model in this process: the first whose tokens a plain forward pass would take too."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.checks.checked_rows import tokens_to_check
from align.checks.layout_check import BROKEN
from align.checks.plain import plain_attention, plain_logits
from align.checks.tolerance import TOLERANCES, compute_dtype
from align.checks.trust import CHECKED, OWN_ENGINE
from align.errors import ModelError, shorten
from align.models.adapters import evaluating
from align.models.in_step import in_step
from align.sampling.decoding_rows import watched
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job, Request
from align.sampling.local import TransformersEngine
from align.sampling.transformers_generate import GenerateEngine
from align.scoring.decoder import unwrapped

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
LEAST = -50.0
"""Log-probabilities below this are as good as this."""


class LocalEngine(Engine):
    """Draws with the first engine that passes, which is looked for once per model, on the first prompts asked for.

    Greedy completions, two of each prompt, are read by plain forward passes of transformers: every token has to be the
    most probable one, drawn from the log-probabilities that they give. Raises ModelError for a model that no engine
    draws from rightly.
    """

    engines: ClassVar[Mapping[str, Make]] = ENGINES
    found_at: ClassVar[str] = CHECKED
    """Where a model keeps the name of the one that was found."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        eos_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        whole_weights: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.eos_ids, self.stop = model, tokenizer, eos_ids, stop
        self.whole_weights = whole_weights

    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job."""
        make = self.engines[self.check([job.request.ids for job in jobs])]
        return make(self.model, self.tokenizer, self.eos_ids, self.stop).generate(jobs, settings, round_number)

    def in_step(self) -> AbstractContextManager[None]:
        """Return the context in which a sharded model is sampled."""
        return in_step([self.model], whole=self.whole_weights)

    def check(self, prompts: Sequence[Sequence[int]]) -> str:
        """Find the engine for the model, if that was not done yet, and return its name."""
        inner = unwrapped(self.model)
        if hasattr(inner, self.found_at):
            return str(getattr(inner, self.found_at))
        asked = _few(inner, prompts)
        faults: dict[str, str] = {}
        for name, make in self.engines.items():
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
        setattr(inner, self.found_at, name)
        return name

    @torch.no_grad()
    def _fault(self, make: Make, prompts: list[list[int]]) -> str | None:
        """Return what is wrong with an engine, None where nothing is."""
        jobs = [Job(place, Request.of_ids(ids), range(2)) for place, ids in enumerate(prompts)]
        try:
            with watched() as seen:
                drawn = make(self.model, self.tokenizer, (), ()).generate(jobs, GREEDY)
        except torch.OutOfMemoryError:
            raise
        except BROKEN as fault:
            return f"does not run ({type(fault).__name__}: {shorten(fault, 120)})"
        rows = [(tuple(prompt), found.ids) for prompt, own in zip(prompts, drawn, strict=True) for found in own]
        read = {(prompt, *ids): self._plain(prompt, ids) for prompt, ids in rows}
        plain = torch.stack([read[prompt, *ids] for prompt, ids in rows])
        ours = torch.stack([torch.stack(seen[place]) for place in range(len(rows))]).double().log_softmax(-1)
        taken = torch.tensor([ids for _, ids in rows], device=plain.device)
        gap = _largest(plain.max(-1).values - plain.gather(-1, taken[..., None])[..., 0])
        if gap > GAPS[compute_dtype(self.model)]:
            return f"takes a token that lies {gap:.2g} nats below the most probable one"
        plain = plain.clamp_min(LEAST)
        error = _largest((ours.clamp_min(LEAST) - plain).norm() / plain.norm())
        if error > TOLERANCES[compute_dtype(self.model)].wrong.values:
            return f"draws from log-probabilities that are off by {error:.1e}"
        return None

    def _plain(self, prompt: Sequence[int], ids: Sequence[int]) -> Float[Tensor, "token vocab"]:
        """Return the log-probabilities before every token of a completion."""
        row = torch.tensor([[*prompt, *ids]], device=next(self.model.parameters()).device)
        with evaluating(self.model), plain_attention(self.model):
            return plain_logits(self.model, row)[0, len(prompt) - 1 : -1].double().log_softmax(-1)


def _largest(values: Tensor) -> float:
    """Return the largest value, infinity where one is no number."""
    return float(values.max().nan_to_num(nan=torch.inf))


def _few(inner: Any, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the shortest and the longest of the first prompts, cut from the left."""
    by_length = sorted(map(list, prompts[:64]), key=len)
    room = (getattr(inner.config.get_text_config(), "max_position_embeddings", None) or 10**9) - GREEDY.max_new_tokens
    most = max(min(tokens_to_check(inner) // 2, room), 1)
    shortest, longest = by_length[0][-most:], by_length[-1][-most:]
    return [shortest[: max(len(shortest) // 2, 1)], longest] if len(shortest) == len(longest) else [shortest, longest]
