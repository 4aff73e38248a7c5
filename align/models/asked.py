"""What is put before the prompts of a model: the one place that reads its folder and what a user asks for instead."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from align.activations.artefact import chosen_vectors
from align.activations.steering import Steering, steered
from align.models.condition_file import Form, needed_conditions, read_asking
from align.models.prompt_parts import Dialogue, PromptPart, condition_parts, instruction_parts, with_system
from align.records.asking import CONDITIONS, Ask


@dataclass(frozen=True)
class ModelAsking:
    """How one model is asked."""

    parts: tuple[PromptPart, ...] = ()
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
        return "; ".join(part.told for part in self.parts) or ("plain" if self.against_training else "")

    @property
    def leads(self) -> bool:
        """Tell whether something stands before the query."""
        return any(part.put is not None and part.leads for part in self.parts)

    @property
    def puts(self) -> bool:
        """Tell whether prompts are changed."""
        return any(part.put is not None for part in self.parts)

    def apply(self, messages: Dialogue) -> Dialogue:
        """Return a dialogue as the model is asked."""
        for part in self.parts:
            messages = messages if part.put is None else part.put(messages)
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
        return {"told": self.told, "text": "\n\n".join(part.text for part in self.parts if part.text)}

    def tell(self, name: str) -> None:
        """Print what is asked, where it is not the prompt alone."""
        text = self.as_dict()["text"]
        if self.told:
            print(f"{name}: {self.told}" + (f", asked for: {text}" if text else ""), file=sys.stderr)


PLAIN = ModelAsking()


def asking_of(path: str, ask: Ask = Ask()) -> ModelAsking:
    """Return how a model folder is asked: as its folder says, but for what `ask` wants otherwise.

    Raises ModelError or ConfigError for what the model was not trained on.
    """
    form, usual = read_asking(path)
    if form is None and usual == Ask() and any(getattr(ask, name) is not None for name in CONDITIONS):
        needed_conditions(path)
    return asking(form, ask.over(usual), path, needed=form is not None or usual != Ask())


def asking(form: Form | None, ask: Ask, path: str = "this model", *, needed: bool = True) -> ModelAsking:
    """Return how a model of a form is asked; see `asking_of`."""
    if ask.plain:
        return ModelAsking(settings={"plain": True}, against_training=True) if needed else PLAIN
    parts = [*condition_parts(form, ask, path), *instruction_parts(form, ask)]
    if ask.system is not None:
        parts.append(PromptPart("system text", ask.system, lambda messages: with_system(messages, ask.system or "")))
    settings: dict[str, Any] = {"texts": [[part.told, part.text] for part in parts]} if parts else {}
    if ask.under is not None and ask.instructions is not None:
        settings["placement"] = ask.instructions.placement
    if ask.chat_template_kwargs:
        parts.append(PromptPart(f"template {ask.chat_template_kwargs}"))
        settings["chat_template_kwargs"] = ask.chat_template_kwargs
    if ask.steer is not None:
        vectors_of(ask)
        parts.append(PromptPart(f"steered {ask.coefficient:g} x {ask.vector} of {Path(ask.steer).name}"))
        steer = {name: asdict(ask)[name] for name in ("vector", "layers", "coefficient", "where")}
        settings["steer"] = {**steer, "file": hashlib.sha256(Path(ask.steer).read_bytes()).hexdigest()}
    return ModelAsking(tuple(parts), settings, ask.chat_template_kwargs or {}, ask if ask.steer is not None else None)


def vectors_of(ask: Ask) -> dict[int, Any]:
    """Return the vectors of each layer. Raises ModelError or ConfigError for a file without them."""
    return chosen_vectors(Path(ask.steer or ""), ask.vector, ask.layers)
