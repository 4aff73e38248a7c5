"""The policy that answers: asked in its own way, steered, by the engine of choice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from align.activations.artefact import chosen_vectors
from align.activations.directions import Kind
from align.activations.steering import Steering, steered
from align.encoding.encoder import Encoder
from align.encoding.templates import TemplateName, make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.evaluation.completions import Policy, Prompt, encoded
from align.models.backbone import Backbone
from align.models.tokenizer import load_tokenizer
from align.records import Message
from align.sampling.checked import LocalEngine
from align.sampling.engine import Engine
from align.sampling.generation import Generation, Request, Sample
from align.sampling.http import HTTPEngine, Server
from align.sampling.sampler import Sampler
from align.sampling.vllm import VLLMEngine

BEFORE_STEERING = ("Hello.", "What do you see when you look out of the window?")
"""What the engine is checked on while nothing steers the model: plain forward passes are steered another way."""

Dialogue = tuple[Message, ...]
EngineName = Literal["transformers", "vllm"]


class Steered(NamedTuple):
    """Vectors of a file, and how they are added to the states of a model."""

    path: str
    vector: Kind
    layers: list[int] | None
    steering: Steering


class Written(NamedTuple):
    """How prompts are written."""

    template: TemplateName
    chat_template_kwargs: dict[str, Any] | None = None


class Answerer(NamedTuple):
    """Answers dialogues, each put as the policy is asked."""

    engine: Engine
    encoder: Encoder
    ask: Callable[[Dialogue], Dialogue]
    policy: Policy | None
    """The model in this process; other engines know the length of their context themselves."""

    def samples(self, prompts: Sequence[Prompt], generation: Generation) -> list[Sample]:
        """Return the samples of all prompts, in their order."""
        asked = [prompt._replace(messages=self.ask(prompt.messages)) for prompt in prompts]
        requests = [
            Request.of_ids(ids)._replace(messages=prompt.messages, tools=prompt.tools)
            for ids, prompt in zip(self._ids(prompts, asked, generation), asked, strict=True)
        ]
        return Sampler(self.engine, generation).sample(requests, bar=True)

    def texts(self, dialogues: Sequence[Dialogue], generation: Generation) -> list[str]:
        """Return one answer to each dialogue, without white space around it."""
        return [found.text.strip() for found in self.samples([Prompt(d) for d in dialogues], generation)]

    def _ids(self, plain: Sequence[Prompt], asked: Sequence[Prompt], generation: Generation) -> list[list[int]]:
        """Return the tokens of prompts, cut from the left where a model in this process has no room for them.

        Raises ConfigError where that would cut off what a prompt was put under.
        """
        if self.policy is None:
            return encoded(self.encoder, asked)
        found = self.policy.prompt_ids(asked, generation.max_new_tokens)
        cut = [number for number, (_, short) in enumerate(found) if short]
        if any(asked[number] != plain[number] for number in cut):
            raise ConfigError(
                f"prompt {cut[0]} and what it is asked under are longer than the context, and the start would be cut "
                "off: leave it out, or lower --generation.max_new_tokens"
            )
        if cut:
            print(f"{len(cut)} of {len(found)} prompts are longer than the context: cut from the left", file=sys.stderr)
        return [ids for ids, _ in found]


@contextmanager
def answerer(
    model: Backbone,
    ask: Callable[[Dialogue], Dialogue],
    *,
    written: Written,
    engine: EngineName,
    server: Server | None,
    steer: Steered | None,
) -> Iterator[Answerer]:
    """Prepare a policy; its states are steered for the time of the context."""
    vectors = None if steer is None else chosen_vectors(Path(steer.path), steer.vector, steer.layers)
    with ExitStack() as stack:
        if server is not None or engine == "vllm":
            yield _elsewhere(model, ask, written, server)
            return
        policy = Policy.load(model, *written)
        own = LocalEngine(policy.model, policy.tokenizer, policy.eos_ids, policy.encoder.template.stop)
        if steer is not None and vectors is not None:
            own.check([policy.encoder.prompt_ids([Message("user", text)]) for text in BEFORE_STEERING])
            stack.enter_context(steered(policy.model, vectors, steer.steering))
        yield Answerer(own, policy.encoder, ask, policy)


def _elsewhere(
    model: Backbone, ask: Callable[[Dialogue], Dialogue], written: Written, server: Server | None
) -> Answerer:
    """Return who answers by a server, or by vLLM where there is none; the folder brings the tokenizer."""
    tokenizer = load_tokenizer(model)
    encoder = Encoder(tokenizer, make_template(tokenizer, *written), Truncation())
    eos_ids, stop = [encoder.template.eos_id], encoder.template.stop
    if server is not None:
        if written.chat_template_kwargs and server.api == "chat":
            server = replace(server, chat_template_kwargs=written.chat_template_kwargs)
        return Answerer(HTTPEngine(server, tokenizer, eos_ids, stop), encoder, ask, None)
    return Answerer(VLLMEngine(model.path, tokenizer, eos_ids, stop=stop), encoder, ask, None)
