"""Sampling for an evaluation: settings, and the responses of model folders, sampled once or read back."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from align.encoding.templates import TemplateName
from align.errors import ConfigError
from align.evaluation.asked_models import AskedModels
from align.evaluation.completion_file import CompletionFile
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.evaluation.continuous_policy import continuous
from align.evaluation.model_answers import answers_to, is_answer_file, read_model_answers
from align.evaluation.policy import Policy
from align.evaluation.ray_drawing import RayDrawing
from align.evaluation.served_policy import check_unsteered, served
from align.models.backbone import Backbone, DTypeName
from align.sampling.engine import Engine
from align.sampling.generation import Generation
from align.sampling.server_pool import ServerPool

EvaluationEngine = Literal["transformers", "continuous"]


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn."""

    temperatures: list[float] = field(default_factory=lambda: [0.0])
    """Temperatures to sample at; 0 is greedy. The judge reads the responses at the first."""
    generation: Generation = field(default_factory=Generation)
    """How to sample, but for the temperature."""
    template: TemplateName = "auto"
    """How prompts are written, as in training."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """What the chat template is given beside the dialogue; a folder of ours keeps those of its training."""
    dtype: DTypeName = "float32"
    """Dtype of the weights."""
    check: bool = True
    """Compare what is drawn with plain forward passes of transformers first; false trusts the models drawn from."""
    engine: EvaluationEngine = "transformers"
    """What draws: our engine, or `continuous`, continuous batching of transformers, which draws the same samples."""
    limit: int | None = None
    """Use at most this many prompts of each subset."""

    def __post_init__(self) -> None:
        if not self.temperatures or not all(0 <= t < math.inf for t in self.temperatures):
            raise ConfigError(f"sampling.temperatures must name numbers from 0, got {self.temperatures}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"sampling.limit must be at least 1, got {self.limit}")

    def at(self, temperature: float) -> Generation:
        """Return the settings at a temperature."""
        return self.generation.at(temperature)


class EvaluationSampler:
    """Responses of a model at a temperature, sampled or read back; one model is held at a time."""

    def __init__(
        self,
        out: Path,
        prompts: list[EvaluationPrompt],
        sampling: Sampling,
        models: AskedModels,
        *,
        pool: ServerPool | None = None,
        ray: RayDrawing | None = None,
    ) -> None:
        """Prepare to sample from models, by their names; another name is the path of a model asked in its own way.

        Raises ConfigError for a steered model where servers or workers draw.
        """
        self.out, self.prompts, self.sampling, self.models = out, prompts, sampling, models
        self.pool, self.ray = pool, ray
        elsewhere = "--ray" if ray is not None else "--pool" if pool is not None else ""
        other = elsewhere or ("" if sampling.engine == "transformers" else "--sampling.engine")
        for name in models.names if other else ():
            check_unsteered(models.asking(name), name, other)
        self._held: tuple[str, Policy] | None = None

    def backbone(self, name: str) -> Backbone:
        """Return how a folder is loaded."""
        return Backbone(self.models.path(name), dtype=self.sampling.dtype, check=self.sampling.check)

    def policy(self, name: str) -> Policy:
        """Return a model, loaded when it is first needed."""
        if self._held is None or self._held[0] != name:
            self._held = None
            self._held = (name, self.load(name))
        return self._held[1]

    def load(self, name: str) -> Policy:
        """Load a model."""
        settings = self.sampling.chat_template_kwargs
        return Policy.load(self.backbone(name), self.sampling.template, settings, self.models.asking(name))

    def file(self, name: str, temperature: float) -> CompletionFile:
        """Return where a model's responses are kept: another place for every way to ask."""
        written = {"template": self.sampling.template, "chat_template_kwargs": self.sampling.chat_template_kwargs}
        settings: dict[str, Any] = {**asdict(self.sampling.at(temperature)), **written}
        if asked := self.models.asking(name).settings:
            settings["asked"] = asked
        if self.pool is not None:
            settings["drawn_by"] = "servers"  # whichever they are: a pool may be another when a command goes on
        elif self.sampling.engine != "transformers":
            settings["drawn_by"] = self.sampling.engine
        return CompletionFile(self.out, self.backbone(name), self.prompts, settings)

    def responses(self, name: str, temperature: float) -> list[EvaluatedCompletion]:
        """Return a model's responses to all prompts; of a file of answers those that stand in it."""
        path = self.models.path(name)
        if is_answer_file(path):
            texts = answers_to([p.messages for p in self.prompts], read_model_answers(Path(path)), path)
            return [EvaluatedCompletion(number, text, [], True) for number, text in enumerate(texts)]
        file = self.file(name, temperature)
        found = file.read()
        if found is None:
            with self._engine(name, temperature) as engine:
                found = self.policy(name).complete(self.prompts, self.sampling.at(temperature), engine)
            file.write(found)
        return found

    def _engine(self, name: str, temperature: float) -> AbstractContextManager[Engine | None]:
        """Return what draws where the model in this process does not."""
        drawing = (self.policy(name), self.backbone(name))
        if self.ray is not None:
            return self.ray.drawn(*drawing, self.sampling.at(temperature))
        if self.pool is not None:
            return served(*drawing, self.pool, self.sampling.at(temperature))
        if self.sampling.engine == "transformers":
            return nullcontext()
        return nullcontext(continuous(*drawing, self.sampling.at(temperature)))

    def first_texts(self, name: str, temperature: float) -> list[str]:
        """Return the first response to each prompt."""
        texts: dict[int, str] = {}
        for found in self.responses(name, temperature):
            texts.setdefault(found.prompt, found.text)
        return [texts[i] for i in range(len(self.prompts))]
