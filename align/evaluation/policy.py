"""A policy that is evaluated: a model with its tokenizer, its encoder, where its responses end, and how it is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from align.checks.trust import trust
from align.encoding.encoder import Encoder
from align.encoding.shortening import without_oldest, without_start
from align.encoding.templates import TemplateName, make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt, encoded
from align.models.adapters import evaluating
from align.models.asked import PLAIN, ModelAsking, asking_of
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.records import Message
from align.sampling.checked import LocalEngine
from align.sampling.engine import Engine
from align.sampling.generation import Generation, Request
from align.sampling.sampler import Sampler

BEFORE_STEERING = ("Hello.", "What do you see when you look out of the window?")
"""What the engine is checked on while nothing steers the model."""


class Policy(NamedTuple):
    """A model that answers, and how prompts are written for it."""

    model: nn.Module
    tokenizer: Any
    encoder: Encoder
    eos_ids: list[int]
    asking: ModelAsking = PLAIN
    """What is put before every prompt, and what the model's states are moved by."""

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        template: TemplateName = "auto",
        settings: Mapping[str, Any] | None = None,
        asking: ModelAsking = PLAIN,
    ) -> Policy:
        """Wrap a model; it ends a response with its template's token or those its folder names."""
        settings = {**(settings or {}), **asking.chat_template_kwargs}
        encoder = Encoder(tokenizer, make_template(tokenizer, template, settings), Truncation())
        known = model.generation_config.eos_token_id
        named = [] if known is None else [known] if isinstance(known, int) else list(known)
        return cls(model, tokenizer, encoder, list(dict.fromkeys([encoder.template.eos_id, *named])), asking)

    @classmethod
    def load(
        cls,
        backbone: Backbone,
        template: TemplateName = "auto",
        settings: Mapping[str, Any] | None = None,
        asking: ModelAsking | None = None,
    ) -> Policy:
        """Load a model folder, asked as it says itself unless told otherwise; the random stream is left alone."""
        asking = asking_of(backbone.path) if asking is None else asking
        tokenizer = load_tokenizer(backbone)
        with torch.random.fork_rng(devices=[]):
            model: Any = load_policy(backbone, tokenizer).eval().requires_grad_(False)
        if not backbone.check:
            trust(model)
        return cls.of(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, template, settings, asking)

    def with_model(self, model: nn.Module) -> Policy:
        """Return another model of the same tokenizer, asked with the prompt alone."""
        return self._replace(model=model, asking=PLAIN)

    def asked(self, prompts: Sequence[EvaluationPrompt]) -> list[EvaluationPrompt]:
        """Return prompts as the model is asked."""
        return [prompt._replace(messages=self.asking.apply(prompt.messages)) for prompt in prompts]

    def prompt_ids(self, prompts: Sequence[EvaluationPrompt], new_tokens: int) -> list[tuple[list[int], bool]]:
        """Return the tokens of prompts as the model is asked, cut from the left where the context has no room.

        What a prompt was put under stays whole: the prompt itself loses its oldest turns, then the start of a text.
        Beside them whether they were cut. Raises ConfigError where nothing is left of a prompt.
        """
        config: Any = self.model.config
        room = (getattr(config.get_text_config(), "max_position_embeddings", None) or 10**9) - new_tokens
        if room < 1:
            raise ConfigError(f"max_new_tokens {new_tokens} leaves no room for a prompt in the model's context")
        found = encoded(self.encoder, self.asked(prompts))
        if self.asking.leads:
            pairs = zip(prompts, found, strict=True)
            return [(self._shorter(p, room), True) if len(ids) > room else (ids, False) for p, ids in pairs]
        bos = int(self.encoder.template.adds_bos and room > 1)
        return [(ids[:bos] + ids[len(ids) - room + bos :], True) if len(ids) > room else (ids, False) for ids in found]

    def shortened(self, found: Sequence[tuple[list[int], bool]]) -> str:
        """Return how many prompts were made shorter, and how; nothing where none was."""
        cut = sum(short for _, short in found)
        how = "cut from the left"
        if self.asking.leads:
            how = f"without their oldest turns or the start of a text, under all of what is asked ({self.asking.told})"
        return f"{cut} of {len(found)} prompts are longer than the context: {how}" if cut else ""

    def _shorter(self, prompt: EvaluationPrompt, room: int) -> list[int]:
        """Return the tokens of a prompt that has been made shorter under what it is asked under."""
        messages = prompt.messages
        while True:
            ids = self.encoder.prompt_ids(self.asking.apply(messages), prompt.tools)
            if (excess := len(ids) - room) <= 0:
                return ids
            left = without_oldest(messages, excess, self._encodings) or without_start(messages, excess, self._encodings)
            if left is None:
                raise ConfigError(
                    f"what prompts are asked under ({self.asking.told}) leaves no room in the context for "
                    f"{prompt.messages[-1].content[:60]!r}: lower max_new_tokens, or ask plainly"
                )
            messages = left

    def _encodings(self, texts: list[str]) -> list[Any]:
        return list(self.tokenizer(texts, add_special_tokens=False).encodings)

    @property
    def engine(self) -> LocalEngine:
        """Return the engine that draws in this process."""
        return LocalEngine(self.model, self.tokenizer, self.eos_ids, self.encoder.template.stop)

    @contextmanager
    def steered(self) -> Iterator[None]:
        """Steer the model, where it is steered, once the engine is checked: plain passes are steered another way."""
        if self.asking.steer is not None:
            self.engine.check([self.encoder.prompt_ids([Message("user", text)]) for text in BEFORE_STEERING])
        with self.asking.steering(self.model):
            yield

    def complete(
        self, prompts: Sequence[EvaluationPrompt], generation: Generation, engine: Engine | None = None
    ) -> list[EvaluatedCompletion]:
        """Return the responses to all prompts, in their order, drawn here or by an engine elsewhere."""
        ids = self.prompt_ids(prompts, generation.max_new_tokens)
        if told := self.shortened(ids):
            tqdm.write(told, file=sys.stderr)
        requests = [
            Request.of_ids(tokens)._replace(messages=prompt.messages, tools=prompt.tools)
            for (tokens, _), prompt in zip(ids, self.asked(prompts), strict=True)
        ]
        with evaluating(self.model), nullcontext() if engine else self.steered():
            sampler = Sampler(engine or self.engine, generation, said=self.encoder.template.said)
            found = sampler.sample(requests, bar=True)
        return [EvaluatedCompletion(s.prompt, s.text.strip(), s.ids, s.finished, ids[s.prompt][1]) for s in found]
