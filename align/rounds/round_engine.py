"""What draws the samples of a run's rounds: our engine, alone or with the reference, or servers given each policy."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_info

from align.distributed import on_first
from align.errors import ConfigError, StoreError
from align.files import atomic_folder
from align.models.folder_checks import ADAPTER_CONFIG, local_folder
from align.models.model_export import is_writer
from align.records import PromptFormat
from align.rounds.pair_selections import DrawnPair
from align.rounds.settings import RoundSettings
from align.sampling.checked import LocalEngine
from align.sampling.engine import Engine
from align.sampling.engine_difference import EngineDifference
from align.sampling.logit_mixture import MixtureEngine
from align.sampling.policy_server import ServedPolicy
from align.sampling.policy_server_finding import OURS
from align.sampling.pool_engine import PoolEngine
from align.sampling.pool_servers import PoolServers
from align.sampling.served_folder import write_for_servers
from align.sampling.stopping_criteria import StopCriteria
from align.sampling.trained_module import ReferencedPolicy, TrainedModule


class RoundEngine:
    """Makes the engine of each round."""

    def __init__(self, settings: RoundSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder.resolve()
        self._servers: PoolServers | None = None
        self._drawing: PoolEngine | None = None
        self.run = f"{OURS}{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}-"

    def check(self, module: TrainedModule) -> None:
        """Ask the servers, where there are any, how they take a policy; every process calls.

        Raises ConfigError for one that takes none, or not what the method trains, before anything is sampled.
        """
        if module.device_mesh is None and self.settings.whole_weights:
            raise ConfigError(
                "align.callbacks.resampling.IterativeResampling.whole_weights is for a model that FSDP2 shards, this "
                "one lies whole on every process: leave it out"
            )
        if self.settings.engine is None:
            return
        source = local_folder(module.backbone.path)
        adapted = module.backbone.lora is not None or (source is not None and (source / ADAPTER_CONFIG).exists())
        pool, online = self.settings.engine, self.settings.selection.keeps_samples
        on_tokens = online or isinstance(self.settings.selection, DrawnPair)
        self._servers = PoolServers(pool, adapted=adapted, on_tokens=on_tokens, corrected=online)
        found = on_first(self._servers.found)
        rank_zero_info(f"rounds are sampled by {', '.join(server.url for server in found)}")

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
        if self._servers is None:
            return LocalEngine(module.model, module.tokenizer, eos_ids, stop, whole_weights=whole)
        pool, generation, backbone = self._servers.pool, self.settings.generation, module.backbone
        weights = hashlib.sha256(repr((policy, backbone)).encode()).hexdigest()[:16]
        self._drawing = PoolEngine(
            self._servers,
            StopCriteria(module.tokenizer, eos_ids, stop),
            generation,
            write=lambda takes: self._written(module, prompt_format, weights, whole=takes == "folder"),
            difference=EngineDifference(
                module.model,
                generation,
                pool.most_difference,
                layout=backbone.layout,
                logit_bytes=backbone.logit_bytes,
            ),
        )
        return self._drawing

    def finish(self) -> None:
        """Remove the policies that were written for servers, and give these their own weights back."""
        if self._drawing is not None:
            self._drawing.restore()
        on_first(lambda: shutil.rmtree(self.folder / "served", ignore_errors=True))

    def _written(
        self, module: TrainedModule, prompt_format: PromptFormat, weights: str, *, whole: bool
    ) -> ServedPolicy:
        """Write the policy for servers, unless it is there, and remove those of former rounds; every process calls."""
        name = f"{self.run}{weights}"
        folder = self.folder / "served" / (f"{name}-whole" if whole else name)
        if not on_first(lambda: self._make_room(folder, name)):
            try:
                with atomic_folder(folder, writes=is_writer()) as part:
                    write_for_servers(module.model, module.tokenizer, part, prompt_format, whole=whole)
            except OSError as error:
                raise StoreError(f"policy for servers {folder} not written: {error.strerror}: make room") from error
        return ServedPolicy(name, folder, self.run)

    def _make_room(self, folder: Path, name: str) -> bool:
        """Remove the folders of other weights, and tell whether this one is there."""
        for other in folder.parent.glob(f"{self.run}*"):
            if not other.name.startswith(name):
                shutil.rmtree(other)
        return folder.exists()
