"""Policies that lie in folders, drawn from by workers on a Ray cluster and compared with what they draw."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from align.evaluation.policy import Policy
from align.models.backbone import Backbone
from align.sampling.compared_workers import ComparedWorkers
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation
from align.sampling.ray_engine import RayEngine
from align.workers.ray_session import RaySession


class RayDrawing(NamedTuple):
    """Workers for all models of a command."""

    settings: ComparedWorkers
    session: RaySession

    @classmethod
    def of(cls, settings: ComparedWorkers) -> RayDrawing:
        """Return workers, of a cluster that is looked for when they are first asked."""
        return cls(settings, RaySession(settings, "ray"))

    def drawn(self, policy: Policy, backbone: Backbone, settings: Generation) -> AbstractContextManager[RayEngine]:
        """Return the engine whose workers load a policy from its folder, as it was loaded here."""
        most = self.settings.most_difference
        difference = EngineDifference(policy.model, settings, most, backbone, setting="ray")
        stop = policy.encoder.template.stop
        engine = RayEngine(self.session, policy.eos_ids, stop, write=lambda: backbone, difference=difference)
        engine.ready()
        return nullcontext(engine)
