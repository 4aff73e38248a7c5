"""A trained reward model as an oracle: scores of any responses, read from its folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from align.checks.plain import plain_rewards
from align.checks.reward_check import check_rewards, few, length_of, on_device
from align.encoding.encoder import Dropped, Encoder
from align.encoding.rendered import RenderedDialogues
from align.encoding.templates import make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.models.adapters import evaluating
from align.models.backbone import Backbone
from align.models.loading import load_reward_model, max_positions, pad_token
from align.models.reward_file import (
    Reading,
    check_outputs,
    read_max_tokens,
    read_reading,
    read_reward_file,
)
from align.models.tokenizer import choose_pad_token, load_tokenizer
from align.records import CandidateBatch, EncodedGroup, Example, Message
from align.rewards.reward_model_reading import outputs_of, refuse_not_finite, usual_reading
from align.scoring.reward_outputs import reward_outputs

Prompts = Mapping[int, Sequence[Message]]
"""By the number that is a group's id."""


class RewardModelScorer:
    """Scores responses with a reward model folder; attributes learnt from ratings are in points, about 0 to 100.

    A model of ours is read as it was trained: a prompt is written, and a response ends, as the folder's template says.
    One of others is read at the last token of the dialogue as its chat template renders it.
    """

    def __init__(
        self,
        folder: str,
        *,
        attributes: Sequence[str] | None = None,
        batch_tokens: int = 16384,
        device: str | torch.device | None = None,
        reading: Reading | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Load the model.

        Args:
            folder: A model or adapter folder, or a hub id.
            attributes: Outputs that are asked for, in this order; None gives all.
            batch_tokens: Tokens of a forward pass.
            device: Where the model runs; null takes a GPU where there is one.
            reading: Where the reward is read, `turn_end` or `template`; null does as the folder's reward.json says,
                and without one takes the rendered chat template, or the end of the turn where there is no template.
            max_tokens: Longest dialogue that is read whole; null takes that of its training (reward.json), or the
                model's context. Of longer ones old turns, then the start of the prompt go unread, which is told once.

        Raises ModelError for a folder without a reward head, or without an output that is asked for.
        """
        for name, value, least in (("batch_tokens", batch_tokens, 1), ("max_tokens", max_tokens, 2)):
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        self.backbone, self.batch_tokens = Backbone(folder, dtype="auto"), batch_tokens
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.rescaling = read_reward_file(folder)
        outputs = outputs_of(folder)
        check_outputs(folder, outputs, attributes or ())
        self.attributes = tuple(attributes or outputs)
        self._columns = [outputs.index(name) for name in self.attributes]
        tokenizer: Any = load_tokenizer(self.backbone)
        self.reading = reading or read_reading(folder) or usual_reading(folder, tokenizer)
        self._ignored = pad_token(self.backbone)
        self.model = self._loaded(tokenizer, outputs)
        self.max_tokens = min(max_tokens or read_max_tokens(folder) or 10**9, max_positions(self.backbone))
        limits = Truncation(None, self.max_tokens, "cut_if_needed", "drop")
        self.encoder = Encoder(tokenizer, make_template(tokenizer), limits)
        self.dialogues = self.cut = self.unread = 0  # how many were scored, read from a later place, not read
        self._told = False
        self.checked = ""  # what the self-check found
        self._rendered = RenderedDialogues(tokenizer) if self.reading == "template" else None

    def score(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> Float[Tensor, "response attribute"]:
        """Return the scores of each response to its prompt, on the CPU; NaN where a sequence is too long."""
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts for {len(responses)} responses")
        examples = [Example(str(i), tuple(p), (r,)) for i, (p, r) in enumerate(zip(prompts, responses, strict=True))]
        groups = self._encoded(examples)
        self.dialogues, self.unread = self.dialogues + len(examples), self.unread + len(examples) - len(groups)
        found = torch.full((len(examples), len(self.attributes)), math.nan)
        parts, asked = list(self._batches(groups)), dict(enumerate(prompts))
        if groups:
            for part, scores in zip(parts, self.read(groups, parts, asked), strict=True):
                found[[int(group.id) for group in part]] = scores
        return found

    @property
    def log_odds(self) -> bool:
        """Return whether the outputs are log-odds, whose sigmoids are chances: those of ratings are in points."""
        return self.rescaling is None

    def _loaded(self, tokenizer: Any, outputs: Sequence[str]) -> nn.Module:
        """Return the model, and give the tokenizer its padding token."""
        model = load_reward_model(self.backbone, tokenizer, list(outputs), choose_pad_token(tokenizer))
        return model.to(self.device)

    @torch.no_grad()
    def read(
        self, groups: list[EncodedGroup], parts: Sequence[list[EncodedGroup]], prompts: Prompts
    ) -> list[Float[Tensor, "response attribute"]]:
        """Return the scores of every part of groups, on the CPU; the groups are what a first check chooses from."""
        found = []
        with evaluating(self.model):
            if not self.checked:
                self._check(few(groups, self.model), prompts)
            for part in parts:
                batch = CandidateBatch.of(part)
                scores = self._score(batch)
                self._refuse_not_finite(batch, prompts, scores)
                found.append(scores.float().cpu())
        return found

    def _check(self, batch: CandidateBatch, prompts: Prompts) -> None:
        plain = plain_rewards(self.model, batch).view(batch.num_candidates, -1)
        self._refuse_not_finite(batch, prompts, plain[:, self._columns])
        self.checked = check_rewards(self.model, self.backbone.path, batch)

    def _refuse_not_finite(self, batch: CandidateBatch, prompts: Prompts, scores: Tensor) -> None:
        asked = [prompts[int(name)] for name in batch.ids]
        refuse_not_finite(f"reward model {self.backbone.path}", self.attributes, asked, scores)

    def _encoded(self, examples: list[Example]) -> list[EncodedGroup]:
        """Return what can be scored; the reward is read at the last token of the response."""
        groups: list[EncodedGroup] = []
        if self._rendered is None:
            found = self.encoder.encode(examples) if examples else []
            groups = [g for g in found if not isinstance(g, Dropped)]
            self._tell_cut(sum(group.length > self.max_tokens for group in groups), len(groups))
            return groups
        cut = 0
        for example in examples:
            dialogue = [*example.messages, Message("assistant", example.responses[0])]
            ids = self._rendered.ids(dialogue)
            while ids and ids[-1] == self._ignored:  # transformers reads the last token that is no padding
                ids.pop()
            if len(ids) > self.max_tokens and self._rendered.response_length(example.responses[0]) < self.max_tokens:
                ids, cut = self._rendered.from_left(ids, self.max_tokens), cut + 1
            if 1 < len(ids) <= self.max_tokens:
                groups.append(EncodedGroup(example.id, ids[:-1], [ids[-1:]], [0], [[]], 1.0, [False]))
        self._tell_cut(cut, len(groups))
        return groups

    def note(self) -> str | None:
        """Return what stands below a table of these rewards: dialogues that were not read, or not from the start."""
        if not self.cut + self.unread:
            return None
        return (
            f"{self.backbone.path}: of {self.dialogues} dialogues {self.cut} are longer than {self.max_tokens} tokens "
            f"and were read without the start of their prompts, {self.unread} could not be read and have no reward"
        )

    def _tell_cut(self, cut: int, of: int) -> None:
        self.cut += cut
        if cut and not self._told:
            self._told = True
            rank_zero_warn(
                f"reward model {self.backbone.path}: {cut} of {of} dialogues are longer than "
                f"{self.max_tokens} tokens, and the start of their prompts is not read (said once)"
            )

    def _score(self, batch: CandidateBatch) -> Float[Tensor, "candidate attribute"]:
        outputs = reward_outputs(self.model, on_device(batch, self.device))
        return (self.rescaling.points_of(outputs) if self.rescaling else outputs)[:, self._columns]

    def _batches(self, groups: list[EncodedGroup]) -> Iterator[list[EncodedGroup]]:
        """Yield groups of similar length within the budget, the longest first."""
        ordered = sorted(groups, key=length_of, reverse=True)
        while ordered:
            size = max(self.batch_tokens // length_of(ordered[0]), 1)
            yield ordered[:size]
            ordered = ordered[size:]
