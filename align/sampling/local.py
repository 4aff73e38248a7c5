"""The default engine: a transformers model in this process, every prompt computed once for all its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from align.errors import ConfigError
from align.models.adapters import evaluating
from align.sampling.drawing import next_tokens
from align.sampling.engine import Engine
from align.sampling.generation import Completion, Finish, Generation, Job, sample_key, uniforms
from align.sampling.prompt_cache import last_logits, prefill
from align.sampling.stopping import Ends
from align.scoring.backbone import unwrapped

DEAD_SHARE = 1 / 8
"""Rows that have ended are dropped when they are more than this share of a batch: dropping copies the others."""


@dataclass
class Row:
    """One completion in the making."""

    limit: int
    ids: list[int]
    finish: Finish | None = None


class TransformersEngine(Engine):
    """Decodes with the model as it is, its adapters in place; evaluation mode, no gradients, no global random numbers.

    The rows of a batch are computed together, so that another batch may change a logit by rounding, and a sample where
    its number falls that close to the border between two tokens.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, eos_ids: Sequence[int], stop: Sequence[str] = ()) -> None:
        self.model, self.ends = model, Ends(tokenizer, eos_ids, stop)
        config = unwrapped(model).config.get_text_config()
        self.max_positions = getattr(config, "max_position_embeddings", None) or 10**9

    @torch.no_grad()
    def generate(self, jobs: Sequence[Job], settings: Generation, round_number: int = 0) -> list[list[Completion]]:
        """Return the completions of every job. Raises ConfigError for a prompt that fills the model's context."""
        rows = [Row(limit, []) for job in jobs for limit in self._limits(job, settings)]
        keys = [sample_key(settings.seed, round_number, j.request.id, k) for j in jobs for k in j.numbers]
        drawn = np.stack([uniforms(key, settings.max_new_tokens) for key in keys])
        with evaluating(self.model):
            self._decode(jobs, rows, drawn, settings)
        done = iter([self.ends.completion(row.ids, row.finish or "length") for row in rows])
        return [[next(done) for _ in job.numbers] for job in jobs]

    def _limits(self, job: Job, settings: Generation) -> list[int]:
        """Return the longest completion of every sample of a job."""
        room = self.max_positions - len(job.request.ids)
        if room < 1:
            raise ConfigError(
                f"prompt {job.request.id} has {len(job.request.ids)} tokens, which fill the model's context of "
                f"{self.max_positions}: shorten it, or set data.encoding.truncation"
            )
        return [min(room, settings.max_new_tokens)] * len(job.numbers)

    def _decode(self, jobs: Sequence[Job], rows: list[Row], drawn: np.ndarray, settings: Generation) -> None:
        """Draw one token after another for every row that has not ended."""
        device = next(self.model.parameters()).device
        numbers = torch.from_numpy(drawn).to(device)
        owners = torch.tensor([place for place, job in enumerate(jobs) for _ in job.numbers], device=device)
        first, cache = prefill(self.model, [job.request.ids for job in jobs], owners)
        logits = first[owners]
        lengths = torch.tensor([len(job.request.ids) for job in jobs], device=device)[owners]
        held = list(range(len(rows)))
        for step in range(settings.max_new_tokens):
            own = numbers[held, step] if len(held) < len(rows) else numbers[:, step]
            tokens = next_tokens(logits, own, temperature=settings.temperature, top_p=settings.top_p)
            going = self._take([rows[i] for i in held], tokens.tolist())
            if not going:
                break
            if len(going) < (1 - DEAD_SHARE) * len(held):
                places = torch.tensor(going, device=device)
                cache.keep(places)
                tokens, lengths, held = tokens[places], lengths[places], [held[place] for place in going]
            logits = last_logits(self.model, cache.step(tokens, lengths + step))

    def _take(self, rows: list[Row], tokens: list[int]) -> list[int]:
        """Append a token to every row that goes on; return the places of those that still do."""
        going = []
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if row.finish is None:
                row.ids.append(token)
                row.finish = self.ends.reason(row.ids, row.limit)
                if row.finish is None:
                    going.append(place)
        return going
