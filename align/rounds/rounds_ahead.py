"""Which round of a run is drawn ahead, by which weights, and what draws it when its turn has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

from align.rounds.drawn_ahead import DrawnAhead
from align.rounds.plan import RoundPlan
from align.rounds.round_folder import RoundFolder
from align.sampling.pool_engine import PoolEngine

Plans = Callable[[int, str], RoundPlan]
"""From the number of a round and the hash of weights to the plan of a round drawn by these."""


class Engines(Protocol):
    """Makes what draws by weights that the model has, or, where they are `gone`, had."""

    def __call__(self, policy: str, *, gone: bool) -> PoolEngine:
        """Return servers for the weights of this hash."""


class Turn(NamedTuple):
    """A round that was begun ahead, whose turn has come."""

    plan: RoundPlan
    engine: PoolEngine
    waited: float
    """Seconds that were waited for its samples."""


class RoundsAhead:
    """Has each round drawn while the one before is trained on, by the weights that one began with.

    That a round was begun so stands in its fingerprint in the store, which decides how it is finished, whatever is set
    by then.
    """

    def __init__(self, rounds: RoundFolder, plans: Plans, engines: Engines) -> None:
        self.rounds, self.plans, self.engines = rounds, plans, engines
        self.drawn: DrawnAhead | None = None
        """The round that is drawn."""

    def begin(self, number: int, policy: str | None) -> None:
        """Begin a round, or go on with it; every process calls, when the round before is trained on.

        Args:
            number: Of the round; one that was not begun by weights that are gone is drawn when its turn comes.
            policy: Hash of the model's weights, with which the round before began; None in a run that goes on inside
                that round, where the model has others.
        """
        row = self.rounds.row(number)
        begun_by = policy or (row.policy if row else None)
        if begun_by is None or (row is not None and row.sha256 is not None):
            return
        plan = replace(self.plans(number, begun_by), ahead=True)
        if row is not None and row.settings != plan.fingerprint:  # told when its turn comes, if it cannot go on
            return
        gone = policy is None
        self.drawn = DrawnAhead(self.rounds, plan, self.engines(plan.policy, gone=gone), compare=not gone)

    def turn(self, number: int) -> Turn | None:
        """Return a round that was begun ahead, once all has come that was asked for; None for one that was not."""
        if self.drawn is not None and self.drawn.plan.number == number:
            self.drawn.wait()
            drawn, self.drawn = self.drawn, None
            engine = self.engines(drawn.plan.policy, gone=True)  # never writes the weights of now for those
            engine.difference = drawn.engine.difference
            return Turn(drawn.plan, engine, drawn.waited)
        if (row := self.rounds.row(number)) is None:
            return None
        plan = replace(self.plans(number, row.policy), ahead=True)
        if row.settings != plan.fingerprint:
            return None
        return Turn(plan, self.engines(plan.policy, gone=True), 0.0)

    def keep(self) -> None:
        """Commit samples that have come; the first process has something to do."""
        if self.drawn is not None:
            self.drawn.keep()

    def stop(self) -> None:
        """Ask servers for nothing more."""
        if self.drawn is not None:
            self.drawn.stop()
