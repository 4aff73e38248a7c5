"""How far the log-probabilities that another engine tells are from ours: what rounding makes, or another model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from align.distributed import gather
from align.errors import ModelError
from align.models.adapters import evaluating
from align.models.backbone import Backbone
from align.records import CandidateBatch, EncodedGroup
from align.sampling.generation import Completion, Generation, Request
from align.scoring import read_sampled, token_states

MEASURED = 32
"""Samples of a round that are scored here too."""
LAST = 4
"""Samples of every batch that are, of each server whose answers do not tell which weights they are of."""


Sums = dict[str, tuple[float, int]]
"""By what drew, the sum of differences and of how many tokens."""


class Drawer(Protocol):
    """What drew a sample, such as one server of a pool."""

    @property
    def place(self) -> str:
        """Return what messages call it."""

    @property
    def processed(self) -> bool:
        """Whether its log-probabilities are those after temperature and top_p."""

    @property
    def names_weights(self) -> bool:
        """Whether an answer is sure to be by the weights it was given last."""


class Drawn(NamedTuple):
    """A sample, and what drew it."""

    request: Request
    completion: Completion
    by: Drawer


class EngineDifference:
    """Scores the first samples of a round by our own forward pass, and adds up the absolute differences."""

    def __init__(
        self,
        model: nn.Module,
        settings: Generation,
        most: float,
        backbone: Backbone,
        *,
        setting: str = "engine",
    ) -> None:
        """Prepare to measure.

        Args:
            model: The policy that others draw from.
            settings: How they draw.
            most: Mean difference in nats above which samples are refused.
            backbone: Says how rows are laid out and how much memory logits may take.
            setting: What the engine is called in settings.
        """
        self.model, self.settings, self.most = model, settings, most
        self.layout, self.logit_bytes, self.setting = backbone.layout, backbone.logit_bytes, setting
        self.begin()

    def begin(self) -> None:
        """Begin a round."""
        self._samples, self._largest = 0, 0.0
        self._sum, self._tokens = 0.0, 0
        self._of: Sums = {}

    def temperature_of(self, by: Drawer) -> float | None:
        """Return the temperature at which what is told equals our log-probabilities, None where there is none."""
        if not by.processed:
            return 1.0
        return self.settings.temperature if self.settings.top_p == 1 else None

    def add(self, drawn: Sequence[Drawn]) -> None:
        """Measure samples, in the order they came, until there are enough.

        The last of every batch are measured by themselves where a server does not say which weights it answers by.
        Raises ModelError where those of a server are of another policy.
        """
        usable = [one for one in drawn if one.completion.logprobs and self.temperature_of(one.by) is not None]
        last = _last_of_each(usable)
        late = {id(one) for one in last}
        early = [one for one in usable if id(one) not in late][: MEASURED - self._samples]
        self._samples += len(early)
        for chosen, sums in ((early, self._of), (last, {})):
            self._measure_all(chosen, sums)
            for place, (total, tokens) in sums.items():
                self._refuse(place, total / max(tokens, 1))

    def measured(self) -> dict[str, float]:
        """Return mean and largest difference over all processes, which all call; nothing where none was measured."""
        parts = gather((self._sum, self._tokens, self._largest))
        tokens = sum(count for _, count, _ in parts)
        if not tokens:
            return {}
        mean = sum(total for total, _, _ in parts) / tokens
        return {"engine_difference": mean, "engine_difference_max": max(most for *_, most in parts)}

    def _measure_all(self, samples: Sequence[Drawn], sums: Sums) -> None:
        """Add up the differences of samples by server, as many in a pass as the budget takes."""
        chosen, budget = list(samples), self.settings.batch_tokens
        while chosen:
            part = [chosen.pop(0)]
            tokens = _length(part[0])
            while chosen and tokens + _length(chosen[0]) <= budget and chosen[0].by is part[0].by:
                tokens += _length(chosen[0])
                part.append(chosen.pop(0))
            total, count = self._measure(part)
            before = sums.get(part[0].by.place, (0.0, 0))
            sums[part[0].by.place] = before[0] + total, before[1] + count

    def _measure(self, part: Sequence[Drawn]) -> tuple[float, int]:
        """Return the sum of the differences of one server's samples, and of how many tokens."""
        told = torch.tensor([v for one in part for v in one.completion.logprobs or ()], dtype=torch.float64)
        gaps = (self._ours(part).double().cpu() - told).abs()
        gaps = gaps[~gaps.isnan()]  # of tokens that a server tells nothing of
        total = float(gaps.sum())
        self._sum, self._tokens = self._sum + total, self._tokens + len(gaps)
        self._largest = max([self._largest, *gaps.tolist()])
        return total, len(gaps)

    @torch.no_grad()
    def _ours(self, part: Sequence[Drawn]) -> Tensor:
        rows = [
            EncodedGroup(str(n), list(one.request.ids), [one.completion.ids], [0], [[]], 1.0, [False])
            for n, one in enumerate(part)
        ]
        temperature = self.temperature_of(part[0].by)
        assert temperature is not None
        device = next(self.model.parameters()).device
        batch: CandidateBatch = move_data_to_device(CandidateBatch.of(rows), device)
        with evaluating(self.model):
            states = token_states(self.model, batch, layout=self.layout)
            return read_sampled(self.model, states, temperature=temperature, logit_bytes=self.logit_bytes).logprobs

    def _refuse(self, place: str, mean: float) -> None:
        if mean > self.most:
            base = "model.backbone.path" if self.setting == "engine" else "that of the model's folder"
            raise ModelError(
                f"{place} draws with log-probabilities that are {mean:.2g} nats a token from ours, "
                f"{self.setting}.most_difference is {self.most:g}: it serves another base model than {base} or weights "
                "of another round, changes what is drawn (penalties, a quantisation), or "
                f"{self.setting}.most_difference has to be higher"
            )


def _last_of_each(drawn: Sequence[Drawn]) -> list[Drawn]:
    """Return the last samples of each server whose answers do not name their weights, server by server."""
    by_server: dict[str, list[Drawn]] = {}
    for one in drawn:
        if not one.by.names_weights:
            by_server.setdefault(one.by.place, []).append(one)
    return [one for found in by_server.values() for one in found[-LAST:]]


def _length(drawn: Drawn) -> int:
    return len(drawn.request.ids) + len(drawn.completion.ids)
