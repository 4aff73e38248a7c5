"""A judge from a model folder, run here: the same prompts, parsers and store as for one behind an endpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from align.checks.trust import trust
from align.encoding.encoder import Dropped, Encoder
from align.encoding.templates import RowRefused, TemplateName, make_template
from align.encoding.truncation import Truncation
from align.models.adapters import evaluating
from align.models.asked import Asking, asking_of
from align.models.backbone import Backbone
from align.models.files import folder_hash, local_folder
from align.models.loading import load_policy, max_positions
from align.models.tokenizer import load_tokenizer
from align.oracles.responder import Progress, Responder
from align.oracles.templates import Question
from align.oracles.verdict_store import VerdictStore
from align.records import CandidateBatch, Example, Message
from align.records.asking import Ask
from align.sampling.generation import Generation, Sample
from align.sampling.sampler import sample
from align.scoring import score_responses


class LocalModel(Responder):
    """Answers with the most probable reply of a causal language model."""

    def __init__(
        self,
        model: Backbone,
        *,
        max_tokens: int = 256,
        batch_size: int = 8,
        template: TemplateName = "auto",
        chat_template_kwargs: dict[str, Any] | None = None,
        ask: Ask = Ask(),
    ) -> None:
        """Configure the judge.

        Args:
            model: The model; `path` is enough.
            max_tokens: Longest reply.
            batch_size: Questions answered at a time.
            template: How questions are written: the model's chat template, `plain`, or a Jinja file.
            chat_template_kwargs: What the chat template is given beside the question, such as `enable_thinking`.
            ask: How the model is asked where that is not as its folder says.
        """
        self.backbone = model.only_asked("responder.model")
        self.generation = Generation(max_tokens, temperature=0.0)
        self.batch_size = batch_size
        self.template, self.ask = template, ask
        self.chat_template_kwargs = {**(chat_template_kwargs or {}), **(ask.chat_template_kwargs or {})}

    def settings(self) -> dict[str, Any]:
        """Return what decides an answer, the weights included."""
        return {
            "model": self.backbone.path,
            "weights": self._weights,
            "dtype": self.backbone.dtype,
            "max_tokens": self.generation.max_new_tokens,
            **({} if self.template == "auto" else {"template": self.template}),
            **({"asked": self.asking.settings} if self.asking.settings else {}),
            **({"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {}),
        }

    @cached_property
    def asking(self) -> Asking:
        """Return how the model is asked."""
        return asking_of(self.backbone.path, self.ask)

    @cached_property
    def _weights(self) -> str:
        folder = local_folder(self.backbone.path)
        return f"revision {self.backbone.revision}" if folder is None else folder_hash(folder)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Encoder]:
        tokenizer = load_tokenizer(self.backbone)
        with torch.random.fork_rng(devices=[]):
            model = load_policy(self.backbone, tokenizer).eval().requires_grad_(False)
        if not self.backbone.check:
            trust(model)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        settings = {**self.chat_template_kwargs, **self.asking.chat_template_kwargs}
        self.asking.tell(f"judge {self.backbone.path}")
        template = make_template(tokenizer, self.template, settings)
        return model, tokenizer, Encoder(tokenizer, template, Truncation())

    def answer(self, questions: Sequence[Question], store: VerdictStore, progress: Progress) -> None:
        """Answer in batches, each committed before the next; a question longer than the context is refused."""
        model, tokenizer, encoder = self._loaded
        room = max_positions(self.backbone) - self.generation.max_new_tokens
        weighed = [question for question in questions if question.choices]
        for question in weighed:
            self._weigh(question, store)
            progress(1)
        questions = [question for question in questions if not question.choices]
        for first in range(0, len(questions), self.batch_size):
            chosen = questions[first : first + self.batch_size]
            prompts = [_prompt(encoder, question, self.asking) for question in chosen]
            fits = [place for place, prompt in enumerate(prompts) if len(prompt) <= room]
            with evaluating(model), self.asking.steering(model):
                samples = sample(
                    model,
                    tokenizer,
                    [prompts[place] for place in fits],
                    self.generation,
                    eos_ids=[encoder.template.eos_id],
                    stop=encoder.template.stop,
                )
            found = {fits[s.prompt]: s for s in samples}
            for place, question in enumerate(chosen):
                self._keep(question, len(prompts[place]), found.get(place), store)
            progress(len(chosen))

    def _weigh(self, question: Question, store: VerdictStore) -> None:
        """Keep the log-probabilities of the beginnings a reply may have, the end of the turn left aside."""
        model, _, encoder = self._loaded
        request = store.reserve(question.key, 0, max_requests=None, max_tokens=None)
        (group,) = encoder.encode([Example("", question.messages, question.choices)])
        if isinstance(group, Dropped):
            store.answered(request, question.key, json.dumps({"refused": group.reason}), None)
            return
        starts = [ids[:-1] for ids in group.response_ids]
        if len(group.prompt_ids) + max(map(len, starts)) > max_positions(self.backbone) or not all(starts):
            body: dict[str, Any] = {"refused": f"{len(group.prompt_ids)} tokens are longer than the context"}
        else:
            batch = CandidateBatch.of([group._replace(response_ids=starts)])
            batch = move_data_to_device(batch, model.device)
            with evaluating(model), torch.no_grad():
                values = score_responses(model, batch).logprobs.tolist()
            told = [{"token": c, "logprob": v} for c, v in zip(question.choices, values, strict=True)]
            best = max(told, key=lambda one: one["logprob"])
            choice = {"message": {"content": best["token"]}, "logprobs": {"content": [{**best, "top_logprobs": told}]}}
            body = {"model": self.backbone.path, "choices": [{**choice, "finish_reason": "stop"}]}
        store.answered(request, question.key, json.dumps(body), (len(group.prompt_ids), 1))

    def _keep(self, question: Question, length: int, found: Sample | None, store: VerdictStore) -> None:
        request = store.reserve(question.key, 0, max_requests=None, max_tokens=None)
        if found is None:
            body: dict[str, Any] = {"refused": f"{length} tokens are longer than the context"}
            store.answered(request, question.key, json.dumps(body), None)
            return
        choice = {"message": {"content": found.text}, "finish_reason": "stop" if found.finished else "length"}
        body = {"model": self.backbone.path, "choices": [choice]}
        store.answered(request, question.key, json.dumps(body), (length, len(found.ids)))


def _prompt(encoder: Encoder, question: Question, asking: Asking) -> list[int]:
    try:
        return encoder.prompt_ids(asking.apply(tuple(question.messages)))
    except RowRefused:  # a chat template without system turns
        joined = Message("user", "\n\n".join(m.content for m in question.messages))
        return encoder.prompt_ids(asking.apply((joined,)))
