"""Workers on a Ray cluster that sample from a policy: their settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning.pytorch.utilities import rank_zero_info

from align.distributed import on_first
from align.models.backbone import Backbone
from align.sampling.compared_workers import ComparedWorkers
from align.sampling.engine_kind import EngineKind, RoundPolicy, RunEngine, SampledRun
from align.sampling.ray_engine import RayEngine
from align.sampling.server_pool import IMPORTANCE_CAP
from align.workers.ray_session import RaySession


@dataclass(frozen=True)
class RaySampler(ComparedWorkers, EngineKind):
    """Processes on a Ray cluster that sample from the policy with align's own engine, the very tokens drawn here.

    Each loads the policy's folder when a round begins and is given whole batches; it needs `pip install
    'align-lm[ray]'`. Folders are read where workers run: they have to be on a disk that all machines share, unless Ray
    is on this machine alone. A worker that dies is started again and its batch drawn anew.
    """

    importance_cap: float | None = IMPORTANCE_CAP
    """In online RL, the policy's loss of a token is multiplied by the ratio of our probability to the worker's, at most
    this; null corrects nothing. On equal hardware the ratio is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers()

    def begin(self, run: SampledRun) -> RayRun:
        """Return what draws the samples of a run.

        Raises ConfigError where Ray is not installed or has no room, Paused where it cannot be reached.
        """
        return RayRun(self, run)


class RayRun(RunEngine):
    """Workers that load the policy's folder when a round begins, and are gone when it is drawn."""

    def __init__(self, settings: RaySampler, run: SampledRun) -> None:
        self.settings, self.run = settings, run
        self.session = RaySession(settings, "engine")
        on_first(self.session.check)
        rank_zero_info(f"rounds are sampled by {settings.workers} workers of {settings.place}")

    def of(self, policy: RoundPolicy) -> RayEngine:
        """Return the engine whose workers draw from the module as it is."""
        module, policies = self.run.module, self.run.policies

        def write() -> Backbone:
            whole = not self.run.adapted or module.backbone.random_init
            written = policies.write(module, policy.prompt_format, policy.weights, whole=whole)
            return replace(module.backbone, path=str(written.folder), lora=None, tokenizer=None, random_init=False)

        return RayEngine(
            self.session,
            [policy.prompt_format.eos_id],
            policy.stop,
            write=write,
            difference=self.run.difference(self.settings.most_difference),
        )

    def finish(self) -> None:
        """Leave the cluster."""
        self.session.close()
