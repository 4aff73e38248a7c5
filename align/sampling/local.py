"""The default engine: a transformers model in this process, every prompt computed once for all its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from align.models.adapters import evaluating
from align.sampling.decoding_rows import Rows
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Generation, Job
from align.sampling.prompt_cache import last_logits, prefill
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.transformers_generate import GenerateEngine, outgrows

DEAD_SHARE = 1 / 8
"""Rows that have ended are dropped when they are more than this share of a batch: dropping copies the others."""


class TransformersEngine(Engine):
    """Decodes with the model as it is, its adapters in place; evaluation mode, no gradients, no global random numbers.

    The rows of a batch are computed together, so that another batch may change a logit by rounding, and a sample where
    its number falls that close to the border between two tokens.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self.model, self.ends = model, StopCriteria(tokenizer, eos_ids, stop)

    @torch.no_grad()
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job. Raises ConfigError for a prompt that fills the model's context."""
        if outgrows(self.model, jobs, settings):
            engine = GenerateEngine(self.model, self.ends.tokenizer, self.ends.eos_ids, self.ends.stop)
            return engine.generate(jobs, settings, round_number)
        rows = Rows(self.model, self.ends, jobs, settings, round_number)
        with evaluating(self.model):
            self._decode(rows)
        return rows.completions()

    def _decode(self, rows: Rows) -> None:
        """Draw one token after another for every row that has not ended."""
        prompts = [job.request.ids for job in rows.jobs]
        device = rows.numbers.device
        owners = torch.tensor([place for place, job in enumerate(rows.jobs) for _ in job.numbers], device=device)
        first, cache = prefill(self.model, prompts, owners)
        logits = first[owners]
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)[owners]
        held = rows.all
        for step in range(rows.settings.max_new_tokens):
            tokens = rows.draw(logits, held, step)
            going = rows.take(held, tokens.tolist())
            if not going:
                break
            if len(going) < (1 - DEAD_SHARE) * len(held):
                places = torch.tensor(going, device=device)
                cache.keep(places)
                tokens, lengths, held = tokens[places], lengths[places], [held[place] for place in going]
            logits = last_logits(self.model, cache.step(tokens, lengths + step))
