"""How a model is asked: what a user chooses, and score texts behind a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from align.errors import ConfigError
from align.records.example import Message
from align.records.instructions import Instructions, Which

CONDITIONS = ("direction", "angle", "ratings")
STEERING = ("vector", "layers", "coefficient", "where")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Another way to ask a model than its folder's own; what is left out stays as the folder has it."""

    direction: str | None = None
    """Weights of the rewards a model was trained under, as in 0.8,-0.6 or helpfulness=0.8,verbosity=-0.6; of any
    length. Null takes the middle of its arc."""
    angle: float | None = None
    """The same as an angle in degrees, as in -37."""
    ratings: str | None = None
    """Ratings for a SteerLM model, as in 80,20, or scores for one trained with scores in the prompt. Null takes the
    highest it knows."""
    under: Which | None = None
    """Put the good or the bad instruction, or marker, into every prompt. Null takes the good one where the model was
    trained under them."""
    instructions: Instructions | None = None
    """The two texts; null takes those of training."""
    system: str | None = None
    """Text of a system turn."""
    chat_template_kwargs: dict[str, Any] | None = None
    """What the chat template is given beside the dialogue, such as {"enable_thinking": false}."""
    steer: str | None = None
    """A `vectors.safetensors` of ActivationCollector: its vectors are added to the states of every position."""
    vector: Literal["mean", "pca"] = "mean"
    """Which of its vectors."""
    layers: list[int] | None = None
    """At which of its layers; null takes all, whose effects add up along the stream."""
    coefficient: float = 1.0
    """Factor on the vectors, in units of their own length."""
    where: Literal["all", "prompt", "generated"] = "all"
    """Steer the states of the prompt, of what is generated, or of both."""
    plain: bool = False
    """Ask with the prompt alone, whatever the model was trained under."""

    def __post_init__(self) -> None:
        given = self.given()
        conditions = [name for name in CONDITIONS if name in given]
        if len(conditions) > 1:
            raise ConfigError(f"{conditions[0]} and {conditions[1]} ask for two things: give one of them")
        if self.plain and len(given) > 1:
            other = next(name for name in given if name != "plain")
            raise ConfigError(f"plain asks for nothing, {other} for something: give one of them")
        if self.instructions is not None and self.under is None:
            raise ConfigError("instructions belongs to under: say positive or negative")
        if self.steer is None and (idle := [name for name in STEERING if name in given]):
            raise ConfigError(f"{idle[0]} belongs to steer: name its file too")

    def given(self) -> dict[str, Any]:
        """Return what is set, by name."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(Ask)}
        return {name: value for name, (value, usual) in values.items() if value != usual}

    def over(self, usual: Ask) -> Ask:
        """Return this, completed by what another one asks for where this says nothing on the matter."""
        if self.plain:
            return self
        ours, theirs = self.given(), usual.given()
        for matter in (CONDITIONS, ("under", "instructions"), ("steer", *STEERING)):
            if any(name in ours for name in matter):
                theirs = {name: value for name, value in theirs.items() if name not in matter}
        return Ask(**{**theirs, **ours})


@dataclass(frozen=True, kw_only=True)
class AskedModel(Ask):
    """A model folder, and how it is asked where that is not its own way."""

    path: str
    """Model or adapter folder, or what else the verb takes as a model."""

    @property
    def parts(self) -> tuple[str, Ask]:
        """Return the path, and how the model is asked."""
        return self.path, Ask(**{field.name: getattr(self, field.name) for field in fields(Ask)})


@dataclass(frozen=True, kw_only=True)
class MeasuredModel(AskedModel):
    """A model folder, or a model behind a server, and how it is asked."""

    path: str = ""
    """Model or adapter folder; of a served model the folder whose tokenizer and asking are its own."""
    base_url: str | None = None
    """Of a server that has the model, such as http://localhost:8000/v1; null loads the folder."""
    model: str = ""
    """The model to ask the server for."""
    api: Literal["completions", "chat"] = "completions"
    """`completions` sends token ids, and scores prompts where the server gives their log-probabilities (`echo`);
    `chat` sends messages, for tasks that generate."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; null sends none."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 600.0
    """Seconds for one answer."""


class Scores(NamedTuple):
    """Scores written behind the last user turn, `[name: value, ...]`."""

    template: str
    """Holds {prompt} and {scores}."""
    decimals: int
    names: tuple[str, ...]
    high: tuple[float, ...]
    """High scores of the training data."""

    def apply(self, messages: Sequence[Message], values: Sequence[float]) -> tuple[Message, ...]:
        """Return the dialogue with scores behind it."""
        content = written_scores(
            self.template, messages[-1].content, dict(zip(self.names, values, strict=True)), self.decimals
        )
        return (*messages[:-1], messages[-1]._replace(content=content))


def written_scores(template: str, prompt: str, scores: dict[str, float], decimals: int) -> str:
    """Return a prompt with its scores; neither text is searched for the other's place."""
    known = ", ".join(f"{name}: {score:.{decimals}f}" for name, score in scores.items())
    return known.join(part.replace("{prompt}", prompt) for part in template.split("{scores}"))
