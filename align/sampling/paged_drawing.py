"""Tokens of samples that share the steps of a paged cache, each by our rule and from its own stream."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from align.sampling.decoding_rows import Rows
from align.sampling.generation import Generation


class PagedDrawing(ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """Draws the next token of every row that shares a step, each with the next number of its own stream."""

    supported_kwargs: ClassVar[dict[str, type]] = {}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, rows: Rows) -> None:
        self.rows, self._held, self._named = rows, list[int](), dict[int, str]()
        self.logprobs: list[list[float]] = [[] for _ in rows.rows]
        self.cancel: Any = None

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """Leave the argument, which is not read."""

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Tensor:
        """Note which rows the next logits are of."""
        self._named = {_place(one.state.request_id): one.state.request_id for one in requests_with_new_token}
        self._held = list(self._named)
        return torch.zeros(len(self._held), dtype=torch.int32)

    def __call__(self, scores: Float[Tensor, "row vocab"], tensor_arg: Int[Tensor, " position"]) -> Tensor:
        """Return scores whose most probable token is the one drawn; those of prompts read in part stand behind."""
        rows, held = self.rows, self._held
        logits = scores[: len(held)]
        tokens = rows.draw(logits, held, [len(rows.rows[place].ids) for place in held])
        told = (logits.float() / _told_at(rows.settings)).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        for place, logprob in zip(held, told.tolist(), strict=True):
            self.logprobs[place].append(logprob)
        rows.take(held, tokens.tolist())
        for place in held:
            if rows.rows[place].finish == "stop":  # of which the manager knows nothing
                self.cancel(self._named[place])
        taken = torch.full_like(scores, -torch.inf)
        taken[: len(held)].scatter_(-1, tokens[:, None], 0.0)
        return taken


def _told_at(settings: Generation) -> float:
    """Return the temperature of the log-probabilities that are told."""
    return settings.temperature if settings.temperature and settings.top_p == 1 else 1.0


def _place(request: str) -> int:
    """Return the row of a request: the manager names what is forked of one after it, numbered from 0."""
    parent, _, child = request.partition("__child#")
    return int(parent) + (int(child) + 1 if child else 0)
