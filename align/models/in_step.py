"""Several processes draw from a sharded model, each its own samples: every call gathers weights from all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from align.distributed import IN_COLLECTIVE, sum_over_ranks
from align.models.adapters import evaluating
from align.models.sharding import AROUND_DECODER, gathered
from align.scoring.decoder import unwrapped


@contextmanager
def in_step(models: Sequence[nn.Module], *, whole: bool = False) -> Iterator[None]:
    """Let every process call some models, those that are sharded as often as the process that calls them most.

    Before each call all processes say which model they want; one that has nothing left to compute computes one token
    beside the others, whose result nobody reads, until nobody wants anything. Models that are not sharded are called as
    if this were not there. Every process enters, in turn with the others; an error is raised once all are done.

    An error inside a call is raised at once, for the others cannot end that call.

    With `whole` every process gathers all weights when it enters, and calls as it likes.
    """
    sharded: list[Any] = [inner for inner in dict.fromkeys(map(unwrapped, models)) if isinstance(inner, FSDPModule)]
    if not sharded:
        yield
        return
    with ExitStack() as stack:
        for model in sharded:
            stack.enter_context(gathered(model, blocks=whole))
        if whole:
            yield
            return
        steps = _Steps(sharded)
        stack.callback(steps.unhook)
        try:
            yield
        except Exception as error:
            if steps.inside:
                setattr(error, IN_COLLECTIVE, True)
                raise
            steps.follow()
            raise
        steps.follow()


class _Steps:
    """The calls of one process, each at the same time as one of every other process."""

    def __init__(self, models: Sequence[Any]) -> None:
        self.models, self.inside, self._idle = models, False, False
        self._hooks = []
        for number, model in enumerate(models):
            before = partial(self._before, number)
            setattr(model, AROUND_DECODER, (before, self._after))
            self._hooks += [
                model.register_forward_pre_hook(lambda *_, before=before: before(), prepend=True),  # before FSDP's own
                model.register_forward_hook(lambda *_: self._after()),
            ]

    def unhook(self) -> None:
        """Leave the models as they were."""
        for hook in self._hooks:
            hook.remove()
        for model in self.models:
            delattr(model, AROUND_DECODER)

    def follow(self) -> None:
        """Compute beside the others until nobody wants anything."""
        while (number := self._next(None)) is not None:
            self._compute(number)

    def _before(self, own: int) -> None:
        """Wait for the turn of a model that this process calls."""
        if self._idle:
            return
        while (number := self._next(own)) != own:
            assert number is not None
            self._compute(number)
        self.inside = True

    def _after(self) -> None:
        if not self._idle:
            self.inside = False

    def _next(self, own: int | None) -> int | None:
        """Return the first model that any process wants, None where none wants one."""
        wanted = torch.zeros(len(self.models), device=_device(self.models[0]))
        if own is not None:
            wanted[own] = 1
        total = sum_over_ranks(wanted)
        if own is not None and len(self.models) == 1:
            return own  # known without waiting for the device
        found = total.nonzero()
        return int(found[0]) if len(found) else None

    @torch.no_grad()
    def _compute(self, number: int) -> None:
        """Call a model on one token, for the weights that the others gather."""
        model = self.models[number]
        self._idle = True
        try:
            with evaluating(model):
                model(
                    input_ids=torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device),
                    use_cache=False,
                )
        finally:
            self._idle = False


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
