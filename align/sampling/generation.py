"""What is sampled and how: settings, requests, samples, and the random stream that belongs to each sample alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from align.errors import ConfigError
from align.records import Message

Finish = Literal["eos", "stop", "length"]
"""Why a sample ended: an EOS token, a stop string, or the limit on its length."""


@dataclass(frozen=True)
class Generation:
    """How completions are drawn."""

    max_new_tokens: int = 128
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    """Draw from the smallest set of tokens with this probability."""
    num_samples: int = 1
    """Completions per prompt."""
    seed: int = 0
    """Another seed draws other completions."""
    batch_tokens: int = 16384
    """Positions of a batch at most: its prompts once each, and the longest completion of every sample."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.num_samples < 1 or self.batch_tokens < 1:
            raise ConfigError("max_new_tokens, num_samples and batch_tokens must be at least 1")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"temperature must not be negative or infinite and top_p lie in (0, 1], got {self.temperature}, "
                f"{self.top_p}"
            )
        if self.temperature == 0 and self.num_samples > 1:
            raise ConfigError(
                "temperature 0 draws the same completion every time: set num_samples to 1, or temperature above 0"
            )
        if self.temperature == 0 and self.top_p < 1:
            raise ConfigError(f"temperature 0 takes the most probable token whatever top_p is: leave out {self.top_p}")

    def at(self, temperature: float) -> Generation:
        """Return the settings at a temperature; the most probable completion is drawn once."""
        if temperature > 0:
            return replace(self, temperature=temperature)
        return replace(self, temperature=temperature, num_samples=1, top_p=1.0, seed=0)


class Request(NamedTuple):
    """A prompt to complete."""

    id: str
    """Names the prompt (with its condition): the random stream of its samples depends on it."""
    ids: Sequence[int]
    """Token ids up to where the response begins."""
    messages: tuple[Message, ...] = ()
    """The same as messages, condition included; needed by engines that write prompts themselves."""
    tools: str = ""
    """Functions that may be called, as a JSON list of schemas; with settings of the row, as `Beside` writes both."""

    @classmethod
    def of_ids(cls, ids: Sequence[int]) -> Request:
        """Return a request named by its tokens."""
        return cls(hashlib.sha256(repr(list(ids)).encode()).hexdigest()[:16], ids)


class Job(NamedTuple):
    """Samples of one prompt that are drawn together."""

    place: int
    """Index of the request."""
    request: Request
    numbers: range
    """Which of the prompt's samples, counted from 0."""


class Completion(NamedTuple):
    """What an engine returns for one sample."""

    ids: list[int]
    """Token ids, the one that ended it included."""
    text: str
    """Decoded without special tokens, cut at the first stop string."""
    finish: Finish
    logprobs: list[float] | None = None
    """Of each token, in nats, as the engine drew it; None where it tells none."""


class Sample(NamedTuple):
    """One completion of a request."""

    prompt: int
    """Index of its request."""
    number: int
    """Which of the prompt's samples it is."""
    ids: list[int]
    text: str
    finish: Finish
    logprobs: list[float] | None = None

    @property
    def finished(self) -> bool:
        """Return whether it ended by itself."""
        return self.finish != "length"


def sample_key(seed: int, round_number: int, request_id: str, number: int) -> int:
    """Return 128 bits that name a sample; its random stream is a function of them and of nothing else."""
    text = repr((seed, round_number, request_id, number))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def uniforms(key: int, count: int) -> np.ndarray:
    """Return `count` numbers in (0, 1] of a sample's stream; the first ones do not depend on `count`."""
    stream = np.random.Generator(np.random.Philox(key=key))
    return (1.0 - stream.random(count)).astype(np.float32)
