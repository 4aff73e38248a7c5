"""What draws the samples of a run's rounds: our engine, alone or with the reference, or another given each policy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

from torch import nn

from align.errors import ConfigError
from align.models.folder_checks import ADAPTER_CONFIG, local_folder
from align.records import PromptFormat
from align.rounds.pair_selections import DrawnPair
from align.rounds.refused_ahead import check_corrected
from align.rounds.settings import RoundSettings
from align.rounds.weights import refuse_ahead
from align.sampling.checked import LocalEngine
from align.sampling.engine import Engine
from align.sampling.engine_kind import RoundPolicy, RunEngine, SampledRun
from align.sampling.logit_mixture import MixtureEngine
from align.sampling.pool_engine import PoolEngine
from align.sampling.pooled_run import PooledRun
from align.sampling.server_pool import ServerPool
from align.sampling.trained_module import ReferencedPolicy, TrainedModule
from align.sampling.written_policies import WrittenPolicies


class RoundEngine:
    """Makes the engine of each round."""

    def __init__(self, settings: RoundSettings, folder: Path) -> None:
        self.settings, self.policies = settings, WrittenPolicies(folder)
        self._other: RunEngine | None = None

    def check(self, module: TrainedModule) -> None:
        """Prepare another engine than ours, where one is set; every process calls, before anything is sampled.

        Raises ConfigError for one that cannot draw from what the method trains.
        """
        if module.device_mesh is None and self.settings.whole_weights:
            raise ConfigError(
                "align.callbacks.resampling.IterativeResampling.whole_weights is for a model that FSDP2 shards, this "
                "one lies whole on every process: leave it out"
            )
        if self.settings.ahead:
            refuse_ahead(cast(nn.Module, module))
        engine, selection = self.settings.engine, self.settings.selection
        if engine is None:
            return
        source = local_folder(module.backbone.path)
        run = SampledRun(
            module,
            self.settings.generation,
            self.policies,
            adapted=module.backbone.lora is not None or (source is not None and (source / ADAPTER_CONFIG).exists()),
            on_tokens=selection.keeps_samples or isinstance(selection, DrawnPair),
            corrected=selection.keeps_samples,
        )
        self._other = PooledRun(engine, run) if isinstance(engine, ServerPool) else engine.begin(run)

    def of(self, module: TrainedModule, prompt_format: PromptFormat, stop: tuple[str, ...], policy: str) -> Engine:
        """Return the engine that draws from a module as it is.

        Args:
            module: The method.
            prompt_format: How its prompts are written, and the token that ends a response.
            stop: Texts that end a response.
            policy: Hash of its trained weights.
        """
        eos_ids = [prompt_format.eos_id]
        whole = self.settings.whole_weights
        if self.settings.mixture is not None:
            models = (module.model, cast(ReferencedPolicy, module).built_reference, self.settings.mixture)
            ends: dict[str, Any] = {"tokenizer": module.tokenizer, "eos_ids": eos_ids, "stop": stop}
            return MixtureEngine(*models, **ends, whole_weights=whole)
        if self._other is None:
            return LocalEngine(module.model, module.tokenizer, eos_ids, stop, whole_weights=whole)
        return self._other.of(RoundPolicy(prompt_format, stop, _loaded(policy, module)))

    def ahead(
        self, module: TrainedModule, prompt_format: PromptFormat, stop: tuple[str, ...], policy: str, *, gone: bool
    ) -> PoolEngine:
        """Return the servers that draw from a policy while the module trains on.

        Args:
            module: The method.
            prompt_format: As above.
            stop: As above.
            policy: Hash of the trained weights that it has, or had.
            gone: Whether it has others by now.

        Raises ConfigError where no servers are set, with which the round was begun.
        """
        check_corrected(self.settings)
        if not isinstance(self._other, PooledRun):
            raise ConfigError(
                "the next round was begun by servers, with weights that the model has no more: set engine.urls as in "
                "the run before"
            )
        return self._other.of(RoundPolicy(prompt_format, stop, _loaded(policy, module), ahead=True, gone=gone))

    def finish(self, *, keep: bool = False) -> None:
        """Remove the policies that were written unless they are to be kept, and let go of what an engine held."""
        if self._other is not None:
            self._other.finish()
        if not keep:
            self.policies.remove()


def _loaded(policy: str, module: TrainedModule) -> str:
    """Return a hash of trained weights and of how they are loaded."""
    return hashlib.sha256(repr((policy, module.backbone)).encode()).hexdigest()[:16]
