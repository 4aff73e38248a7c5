"""The policy that answers: asked in its own way, steered, by the engine of choice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

from align.encoding.encoder import Encoder
from align.encoding.templates import TemplateName, make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt, encoded
from align.evaluation.continuous_policy import continuous
from align.evaluation.policy import Policy
from align.evaluation.ray_drawing import RayDrawing
from align.evaluation.served_policy import check_unsteered, served
from align.models.asked import ModelAsking
from align.models.backbone import Backbone
from align.models.prompt_parts import Dialogue
from align.models.tokenizer import load_tokenizer
from align.sampling.compared_workers import ComparedWorkers
from align.sampling.engine import Engine
from align.sampling.generation import Generation, Request, Sample
from align.sampling.http import HTTPEngine, Server
from align.sampling.sampler import Sampler
from align.sampling.server_pool import ServerPool
from align.sampling.vllm import VLLMEngine

EngineName = Literal["transformers", "continuous", "vllm"]


class Written(NamedTuple):
    """How prompts are written."""

    template: TemplateName
    chat_template_kwargs: dict[str, Any] | None = None


class Answerer(NamedTuple):
    """Answers dialogues, each put as the policy is asked."""

    drawing: Callable[[Generation], AbstractContextManager[Engine]]
    """What draws, for as long as its context lasts."""
    encoder: Encoder
    asking: ModelAsking
    policy: Policy | None
    """The model in this process; other engines know the length of their context themselves."""

    def samples(self, prompts: Sequence[EvaluationPrompt], generation: Generation) -> list[Sample]:
        """Return the samples of all prompts, in their order."""
        asked = [prompt._replace(messages=self.asking.apply(prompt.messages)) for prompt in prompts]
        requests = [
            Request.of_ids(ids)._replace(messages=prompt.messages, tools=prompt.tools)
            for ids, prompt in zip(self._ids(prompts, asked, generation), asked, strict=True)
        ]
        with self.drawing(generation) as engine:
            return Sampler(engine, generation, said=self.encoder.template.said).sample(requests, bar=True)

    def texts(self, dialogues: Sequence[Dialogue], generation: Generation) -> list[str]:
        """Return one answer to each dialogue, without white space around it."""
        return [found.text.strip() for found in self.samples([EvaluationPrompt(d) for d in dialogues], generation)]

    def _ids(
        self, plain: Sequence[EvaluationPrompt], asked: Sequence[EvaluationPrompt], generation: Generation
    ) -> list[list[int]]:
        """Return the tokens of prompts, shorter where a model in this process has no room for them."""
        if self.policy is None:
            return encoded(self.encoder, asked)
        found = self.policy.prompt_ids(plain, generation.max_new_tokens)
        if told := self.policy.shortened(found):
            print(told, file=sys.stderr)
        return [ids for ids, _ in found]


@contextmanager
def answerer(
    model: Backbone,
    asking: ModelAsking,
    *,
    written: Written,
    engine: EngineName,
    server: Server | None,
    pool: ServerPool | None,
    ray: ComparedWorkers | None,
) -> Iterator[Answerer]:
    """Prepare a policy; its states are steered for the time of the context.

    Raises ConfigError where its folder says that it is steered, and another process draws.
    """
    elsewhere = server is not None or engine == "vllm"
    if elsewhere and asking.steer is not None:
        raise ConfigError(
            f"{model.path} is {asking.told}, which changes states inside the model: leave out --server and --engine "
            "vllm, or ask with --plain true"
        )
    written = written._replace(
        chat_template_kwargs={**(written.chat_template_kwargs or {}), **asking.chat_template_kwargs}
    )
    if elsewhere:
        yield _elsewhere(model, asking, written, server)
        return
    if pool is not None or ray is not None:
        check_unsteered(asking, model.path, "--pool" if ray is None else "--ray")
        policy = Policy.load(model, *written, asking)
        with _others(policy, model, pool, ray) as others:
            yield Answerer(others, policy.encoder, asking, policy)
        return
    policy = Policy.load(model, *written, asking)
    if engine == "continuous":
        check_unsteered(asking, model.path, "--engine continuous")
        drawing = partial(continuous, policy, model)
        yield Answerer(lambda generation: nullcontext(drawing(generation)), policy.encoder, asking, policy)
        return
    with policy.steered():
        yield Answerer(lambda _: nullcontext(policy.engine), policy.encoder, asking, policy)


@contextmanager
def _others(
    policy: Policy, model: Backbone, pool: ServerPool | None, ray: ComparedWorkers | None
) -> Iterator[Callable[[Generation], AbstractContextManager[Engine]]]:
    """Return what has servers, or workers, draw from a policy that lies in a folder."""
    if ray is None:
        assert pool is not None
        yield partial(served, policy, model, pool)
        return
    drawing = RayDrawing.of(ray)
    with closing(drawing.session):
        yield partial(drawing.drawn, policy, model)


def _elsewhere(model: Backbone, asking: ModelAsking, written: Written, server: Server | None) -> Answerer:
    """Return who answers by a server, or by vLLM where there is none; the folder brings the tokenizer."""
    tokenizer = load_tokenizer(model)
    encoder = Encoder(tokenizer, make_template(tokenizer, *written), Truncation())
    eos_ids, stop = [encoder.template.eos_id], encoder.template.stop
    if server is not None:
        if written.chat_template_kwargs and server.api == "chat":
            server = replace(server, chat_template_kwargs=written.chat_template_kwargs)
        engine: Engine = HTTPEngine(server, tokenizer, eos_ids, stop)
    else:
        engine = VLLMEngine(model.path, tokenizer, eos_ids, stop=stop)
    return Answerer(lambda _: nullcontext(engine), encoder, asking, None)
