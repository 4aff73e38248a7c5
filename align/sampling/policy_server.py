"""One server that samples from a policy it is given anew: what is asked of each, however it takes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from align.errors import ModelError
from align.sampling.generation import Completion, Generation, Request
from align.sampling.served_answer import Api, ServedAnswer, read_answer
from align.sampling.server_faults import printable
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.wire import Refused, Wire

Takes = Literal["adapter", "folder", "nothing"]
"""An adapter folder, a whole model folder with adapters merged, or nothing: the server was started with the model."""


class ServedPolicy(NamedTuple):
    """A policy as it was written for servers."""

    name: str
    """Its run and the hash of its weights, so that no server can answer under it with other weights."""
    folder: Path
    run: str
    """What the names of all policies of the run begin with."""


class OtherWeights(ModelError):
    """An answer by other weights than the server was given."""


class PolicyServer(ABC):
    """One server of a pool, and how it is asked."""

    takes: ClassVar[Takes]
    tells_tokens: ClassVar[bool]
    """Whether its answers hold the tokens that were drawn."""
    names_weights: ClassVar[bool] = True
    """Whether an answer says which weights it is of, so that a server which began anew is seen at once."""
    replaces: ClassVar[bool] = False
    """Whether the policy takes the place of the server's own weights."""
    api: ClassVar[Api]
    path: ClassVar[str]

    def __init__(self, url: str) -> None:
        self.url = url
        self.policy: ServedPolicy | None = None
        """What it was given last."""
        self.processed = False
        """Whether its log-probabilities are those after temperature and top_p."""

    @property
    def place(self) -> str:
        """Return what messages call it."""
        return f"server {self.url}"

    @property
    def model(self) -> str:
        """Return what it calls the policy it was given."""
        assert self.policy is not None
        return self.called(self.policy)

    async def take(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Have the server load a policy; loading it again changes nothing. Raises ModelError where it does not."""
        await self.load(wire, policy, seconds)
        self.policy = policy

    @abstractmethod
    async def load(self, wire: Wire, policy: ServedPolicy, seconds: float) -> None:
        """Have the server load a policy."""

    async def leave(self, wire: Wire, seconds: float) -> None:
        """Have the server forget the policy, where it would keep it for ever."""

    async def find_mode(self, wire: Wire, ends: StopCriteria, seconds: float) -> None:
        """Find out whether its log-probabilities follow the temperature; of one that tells none nothing is found."""

    async def restore(self, wire: Wire, seconds: float) -> None:
        """Have the server take its own weights back, where it would answer with a policy's under their name."""

    async def ask(self, wire: Wire, body: dict[str, Any], seconds: float) -> str:
        """Return the body of the answer for one sample."""
        return await wire.post(self.path, {"model": self.model, **body}, seconds)

    def has_forgotten(self, refusal: Refused) -> bool:
        """Tell whether a refusal says that the policy is not there, as after a start."""
        return refusal.status == 404

    @abstractmethod
    def called(self, policy: ServedPolicy) -> str:
        """Return what it calls a policy."""

    @abstractmethod
    def body(self, request: Request, key: int, settings: Generation, ends: StopCriteria) -> dict[str, Any]:
        """Return what is sent for one sample, without the model's name."""

    @abstractmethod
    def completion(self, answer: ServedAnswer, ends: StopCriteria) -> Completion:
        """Return the completion in an answer."""

    def read(self, body: str, request: Request, ends: StopCriteria) -> Completion:
        """Return the completion in a body. Raises ModelError for one by another model, or of another prompt."""
        answer = read_answer(body, self.place, self.api)
        if answer.model not in (self.model, f"{self.model}@main"):  # transformers adds the revision
            raise OtherWeights(f"{self.place}: asked for {self.model}, {printable(answer.model)!r} answered")
        read = answer.usage.get("prompt_tokens", len(request.ids))
        if read != len(request.ids):
            raise ModelError(
                f"{self.place}: read a prompt of {printable(read)} tokens, it has {len(request.ids)}: the server "
                "writes or cuts prompts in its own way"
            )
        return self.completion(answer, ends)

    @staticmethod
    def drawing(key: int, settings: Generation, ends: StopCriteria) -> dict[str, Any]:
        """Return the fields that all servers take."""
        return {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens,
            "seed": key % 2**31,
            **({"stop": list(ends.stop)} if ends.stop else {}),
        }
