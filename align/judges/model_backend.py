"""Answers of a causal language model that runs here: the most probable reply, or the chances of given words."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from align.encoding.encoder import Dropped, Encoder
from align.encoding.templates import RowRefused
from align.encoding.truncation import Truncation
from align.judges.chat_backend import ChatBackend, Progress
from align.judges.judge_prompts import JudgeRequest
from align.judges.verdict_store import StoredReply, VerdictStore
from align.models.adapters import evaluating
from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.models.loading import max_positions
from align.records import CandidateBatch, EncodedGroup, Example, Message
from align.sampling.generation import Generation, Sample
from align.sampling.sampler import sample
from align.scoring import score_responses


class ModelBackend(ChatBackend):
    """Answers in batches, each committed as one: a run that goes on after a kill asks the batches that are left."""

    generation: Generation
    batch_size: int

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """Return what says how long a text the model takes."""

    @property
    @abstractmethod
    def loaded(self) -> tuple[Any, Any, Encoder]:
        """Return the model, its tokenizer, and what writes questions."""

    @property
    @abstractmethod
    def asking(self) -> ModelAsking:
        """Return how the model is asked."""

    def answer(self, questions: Sequence[JudgeRequest], store: VerdictStore, progress: Progress) -> None:
        """Answer; a question longer than the context is refused."""
        for question in questions:
            if question.choices:
                store.keep([self._weighed(question)])
                progress(1)
        written = [question for question in questions if not question.choices]
        for first in range(0, len(written), self.batch_size):
            chosen = written[first : first + self.batch_size]
            store.keep(self._replies(chosen))
            progress(len(chosen))

    def _replies(self, questions: Sequence[JudgeRequest]) -> list[StoredReply]:
        """Return the most probable reply to each question."""
        model, tokenizer, encoder = self.loaded
        room = max_positions(self.backbone) - self.generation.max_new_tokens
        prompts = [_prompt(encoder, question, self.asking) for question in questions]
        fits = [place for place, prompt in enumerate(prompts) if len(prompt) <= room]
        with evaluating(model), self.asking.steering(model):
            samples = sample(
                model,
                tokenizer,
                [prompts[place] for place in fits],
                self.generation,
                eos_ids=[encoder.template.eos_id],
                stop=encoder.template.stop,
                said=encoder.template.said,
            )
        found = {fits[s.prompt]: s for s in samples}
        return [self._reply(q, len(prompts[place]), found.get(place)) for place, q in enumerate(questions)]

    def _reply(self, question: JudgeRequest, length: int, found: Sample | None) -> StoredReply:
        if found is None:
            return _refused(question, f"{length} tokens are longer than the context")
        choice = {"message": {"content": found.text}, "finish_reason": "stop" if found.finished else "length"}
        return StoredReply(
            question.key, json.dumps({"model": self.name, "choices": [choice]}), (length, len(found.ids))
        )

    def _weighed(self, question: JudgeRequest) -> StoredReply:
        """Return the log-probabilities of the beginnings a reply may have, the end of the turn left aside."""
        model, _, encoder = self.loaded
        group = _whole(encoder, question, self.asking)
        if isinstance(group, Dropped):
            return _refused(question, group.reason)
        starts = [ids[:-1] for ids in group.response_ids]
        if len(group.prompt_ids) + max(map(len, starts)) > max_positions(self.backbone) or not all(starts):
            return _refused(question, f"{len(group.prompt_ids)} tokens are longer than the context")
        batch = CandidateBatch.of([group._replace(response_ids=starts)])
        batch = move_data_to_device(batch, model.device)
        with evaluating(model), self.asking.steering(model), torch.no_grad():
            values = score_responses(model, batch).logprobs.tolist()
        told = [{"token": c, "logprob": v} for c, v in zip(question.choices, values, strict=True)]
        best = max(told, key=lambda one: one["logprob"])
        choice = {"message": {"content": best["token"]}, "logprobs": {"content": [{**best, "top_logprobs": told}]}}
        body = {"model": self.name, "choices": [{**choice, "finish_reason": "stop"}]}
        return StoredReply(question.key, json.dumps(body), (len(group.prompt_ids), 1))


def _refused(question: JudgeRequest, reason: str) -> StoredReply:
    return StoredReply(question.key, json.dumps({"refused": reason}), None)


def _prompt(encoder: Encoder, question: JudgeRequest, asking: ModelAsking) -> list[int]:
    try:
        return encoder.prompt_ids(asking.apply(tuple(question.messages)))
    except RowRefused:  # a chat template without system turns
        return encoder.prompt_ids(asking.apply(_joined(question)))


def _whole(encoder: Encoder, question: JudgeRequest, asking: ModelAsking) -> EncodedGroup | Dropped:
    """Return a question with the beginnings of its replies, nothing of it cut, or why it cannot be written."""
    uncut = Encoder(encoder.tokenizer, encoder.template, Truncation(max_total=10**9))
    found, joined = uncut.encode(
        [Example("", asking.apply(turns), question.choices) for turns in (tuple(question.messages), _joined(question))]
    )
    return joined if isinstance(found, Dropped) else found  # of a chat template without system turns


def _joined(question: JudgeRequest) -> tuple[Message, ...]:
    return (Message("user", "\n\n".join(m.content for m in question.messages)),)
