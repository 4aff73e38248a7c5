"""What is put before the prompts of a model: the one place that reads its folder and what a user asks for instead."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from align.activations.artefact import chosen_vectors
from align.activations.steering import Steering, steered
from align.errors import ConfigError
from align.models.condition_file import Conditions, Form, needed_conditions, read_asking
from align.records import Instructions, Message
from align.records.asking import CONDITIONS, Ask, Scores
from align.records.directions import Way, parse_direction, vector

Dialogue = tuple[Message, ...]
OPTIONS = {
    "direction": "direction or angle",
    "ratings": "ratings, as in 80,20",
    "scores": "ratings, as in 9",
    "instruction": "under positive or negative",
    "nothing": "no condition",
}
"""What a model is given that was trained on prompts of a kind."""


@dataclass(frozen=True)
class Layer:
    """One thing that is put into a prompt, or done to the model."""

    told: str
    """In a few words."""
    text: str = ""
    """What the prompt says."""
    put: Callable[[Dialogue], Dialogue] | None = None
    leads: bool = True
    """Whether it stands before the query, where a prompt that is too long would lose it."""


@dataclass(frozen=True)
class Asking:
    """How one model is asked."""

    layers: tuple[Layer, ...] = ()
    """In the order they are put in."""
    settings: dict[str, Any] = field(default_factory=dict)
    """All that decides what is asked, as plain values; files are kept as they are."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """What the chat template is given beside the dialogue."""
    steer: Ask | None = None
    """Vectors that are added to the states."""
    against_training: bool = False
    """Whether a model that was trained under something is asked with the prompt alone."""

    @property
    def told(self) -> str:
        """Return what is asked in a few words; nothing for the prompt alone."""
        return "; ".join(layer.told for layer in self.layers) or ("plain" if self.against_training else "")

    @property
    def leads(self) -> bool:
        """Tell whether something stands before the query."""
        return any(layer.put is not None and layer.leads for layer in self.layers)

    @property
    def puts(self) -> bool:
        """Tell whether prompts are changed."""
        return any(layer.put is not None for layer in self.layers)

    def apply(self, messages: Dialogue) -> Dialogue:
        """Return a dialogue as the model is asked."""
        for layer in self.layers:
            messages = messages if layer.put is None else layer.put(messages)
        return messages

    @contextmanager
    def steering(self, model: nn.Module) -> Iterator[None]:
        """Steer a model for the time of a context, where it is steered."""
        if self.steer is None:
            yield
            return
        with steered(model, vectors_of(self.steer), Steering(self.steer.coefficient, self.steer.where)):
            yield

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a file of results."""
        return {"told": self.told, "text": "\n\n".join(layer.text for layer in self.layers if layer.text)}

    def tell(self, name: str) -> None:
        """Print what is asked, where it is not the prompt alone."""
        text = self.as_dict()["text"]
        if self.told:
            print(f"{name}: {self.told}" + (f", asked for: {text}" if text else ""), file=sys.stderr)


PLAIN = Asking()


def asking_of(path: str, ask: Ask = Ask()) -> Asking:
    """Return how a model folder is asked: as its folder says, but for what `ask` wants otherwise.

    Raises ModelError or ConfigError for what the model was not trained on.
    """
    form, usual = read_asking(path)
    if form is None and usual == Ask() and any(getattr(ask, name) is not None for name in CONDITIONS):
        needed_conditions(path)
    return asking(form, ask.over(usual), path, needed=form is not None or usual != Ask())


def asking(form: Form | None, ask: Ask, path: str = "this model", *, needed: bool = True) -> Asking:
    """Return how a model of a form is asked; see `asking_of`."""
    if ask.plain:
        return Asking(settings={"plain": True}, against_training=True) if needed else PLAIN
    layers = [*_condition(form, ask, path), *_instruction(form, ask)]
    if ask.system is not None:
        layers.append(Layer("system text", ask.system, lambda messages: _with_system(messages, ask.system or "")))
    settings: dict[str, Any] = {"texts": [[layer.told, layer.text] for layer in layers]} if layers else {}
    if ask.under is not None and ask.instructions is not None:
        settings["placement"] = ask.instructions.placement
    if ask.chat_template_kwargs:
        layers.append(Layer(f"template {ask.chat_template_kwargs}"))
        settings["chat_template_kwargs"] = ask.chat_template_kwargs
    if ask.steer is not None:
        vectors_of(ask)
        layers.append(Layer(f"steered {ask.coefficient:g} x {ask.vector} of {Path(ask.steer).name}"))
        steer = {name: asdict(ask)[name] for name in ("vector", "layers", "coefficient", "where")}
        settings["steer"] = {**steer, "file": hashlib.sha256(Path(ask.steer).read_bytes()).hexdigest()}
    return Asking(tuple(layers), settings, ask.chat_template_kwargs or {}, ask if ask.steer is not None else None)


def vectors_of(ask: Ask) -> dict[int, Any]:
    """Return the vectors of each layer. Raises ModelError or ConfigError for a file without them."""
    return chosen_vectors(Path(ask.steer or ""), ask.vector, ask.layers)


def _condition(form: Form | None, ask: Ask, path: str) -> list[Layer]:
    given = next((name for name in CONDITIONS if getattr(ask, name) is not None), None)
    kind = "nothing" if form is None else "instruction"
    if isinstance(form, Conditions | Scores):
        kind = "scores" if isinstance(form, Scores) else form.asks
    if given is not None and (kind in ("nothing", "instruction") or (given == "ratings") == (kind == "direction")):
        raise ConfigError(
            f"{given}: {path} was trained on prompts that ask for {kind}: give {_prefixed(OPTIONS[kind], kind)}"
        )
    if isinstance(form, Scores):
        return [_scored(form, ask, path)]
    if not isinstance(form, Conditions):
        return []
    own, leads = form.conditioning, True
    if kind == "ratings":
        rating = form.best if ask.ratings is None else _numbers(ask.ratings, own.named)
        told, clause = "ratings " + ",".join(f"{value:g}" for value in rating), own.ratings(rating)
    else:
        way = _way(form, ask)
        told, clause = _directed(form, way), own.direction(way)
    return [Layer(told, f"{own.system} {clause}".strip(), lambda messages: own.apply(messages, clause), leads)]


def _prefixed(words: str, kind: str) -> str:
    return words if kind == "nothing" else f"--{words}"


def _way(form: Conditions, ask: Ask) -> Way:
    own = form.conditioning
    if ask.angle is not None and len(own.named) > 2:
        raise ConfigError(f"angle: this model has {len(own.named)} rewards: give a direction, a weight of each")
    way: Way = own.region.middle if ask.angle is None else ask.angle
    if ask.direction is not None:
        way = parse_direction(ask.direction, own.named)
    if not own.region.holds(way):  # type: ignore[arg-type]
        what, place = ("direction", "cap") if isinstance(way, tuple) else (f"angle {way:.1f}", "arc")
        print(
            f"warning: {what} lies outside the {place} {own.region} this model was trained on, so what it does "
            "there is not known",
            file=sys.stderr,
        )
    return way


def _directed(form: Conditions, way: Way) -> str:
    first, *others = zip(vector(way), form.conditioning.named, strict=True)
    told = " ".join([f"direction {first[0]:.2f} {first[1]}", *(f"{weight:+.2f} {name}" for weight, name in others)])
    return told if isinstance(way, tuple) else f"{told} (angle {way:.1f} degrees)"


def _scored(form: Scores, ask: Ask, path: str) -> Layer:
    values = form.high if ask.ratings is None else _numbers(ask.ratings, form.names)
    text = ", ".join(f"{name} {value:.{form.decimals}f}" for name, value in zip(form.names, values, strict=True))
    return Layer(f"scores {text}", text, lambda messages: form.apply(messages, values), leads=False)


def _numbers(text: str, names: tuple[str, ...]) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != len(names) or not all(abs(value) < 1e9 for value in values):
        like = ",".join(["80"] * len(names))
        raise ConfigError(f"ratings {text}: expected points for {' and '.join(names)}, as in {like}")
    return values


def _instruction(form: Form | None, ask: Ask) -> list[Layer]:
    own = form if isinstance(form, Instructions) else None
    which = ask.under or ("positive" if own is not None else None)
    if which is None:
        return []
    texts = ask.instructions or own or Instructions()
    text = texts.positive if which == "positive" else texts.negative
    told = f"under the {which} {'marker' if texts.placement == 'end' else 'instruction'}"
    return [Layer(told, text, lambda messages: texts.apply(messages, which), texts.placement != "end")]


def _with_system(messages: Dialogue, text: str) -> Dialogue:
    """Return a dialogue with a system text, in front of one that is there."""
    if messages and messages[0].role == "system":
        return (messages[0]._replace(content=f"{text}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", text), *messages)
