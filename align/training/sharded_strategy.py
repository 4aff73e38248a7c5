"""FSDP2 whose checkpoints are one file per process, whole or absent, written beside training where asked to."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from align.distributed import gather
from align.errors import ConfigError, ResumeError
from align.files import sync_folder, sync_tree
from align.models.own_parts import give_all
from align.training.checkpoint_contents import check_fits, trained_shapes
from align.training.optimizer_names import named, settled
from align.training.shard_files import SHARDS, differing, fill, new_name, remove_shards, write_shards
from align.training.shard_writing import prepare, together

if TYPE_CHECKING:
    from align.training.built_module import BuiltModule

MINUTES = 30
"""How long processes wait for each other while they write."""


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 by torch: every process holds, saves and loads its part of weights and optimiser.

    A checkpoint holds trained tensors only. It can be gone on with by another number of processes, one alone too.
    """

    def __init__(
        self,
        shards: Literal["auto"] | int = "auto",
        *,
        save_beside_training: bool = False,
        prefetch: int = 1,
        tensor_parallel_size: int = 1,
        process_group_backend: str | None = None,
        timeout: timedelta | None = timedelta(minutes=30),
    ) -> None:
        """Configure the strategy.

        Args:
            shards: Processes that hold one copy of the model together; `auto` is those of a machine: every machine has
                a copy.
            save_beside_training: Write checkpoints in a thread, from copies in (pinned) memory of the CPU; training
                waits only where the one before is not written yet.
            prefetch: Blocks that are gathered while the one before runs, forward and backward; more than one takes
                the memory of a block each. Backward one is gathered so in any case.
            tensor_parallel_size: 1: every process has rows of its own, and no tensor is multiplied in parts.
            process_group_backend: Backend of collectives; null takes the device's.
            timeout: How long a process waits for another.
        """
        super().__init__("auto", "auto", True, process_group_backend, timeout)
        if prefetch < 0:
            raise ConfigError(f"trainer.strategy.prefetch must not be negative, got {prefetch}")
        if tensor_parallel_size != 1:
            raise ConfigError(
                f"trainer.strategy.tensor_parallel_size {tensor_parallel_size}: no tensor is multiplied in parts, "
                "every process has rows of its own: leave it out; trainer.strategy.shards says how many hold one copy "
                "of a model"
            )
        self.shards = shards
        self.save_beside_training, self.prefetch = save_beside_training, prefetch
        self._group: Any = None
        self._stager: DefaultStager | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def setup_environment(self) -> None:
        """Lay processes out as copies and their shards. Raises ConfigError for shards that no copies are made of."""
        if self.shards != "auto":
            world = self.num_nodes * self.num_processes
            if self.shards < 2 or world % self.shards:
                raise ConfigError(
                    f"trainer.strategy.shards {self.shards}: expected at least 2 that divide the {world} processes "
                    "(-c ddp holds the model whole on each)"
                )
            self._data_parallel_size, self._tensor_parallel_size = world // self.shards, self.shards
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return this process's part of the trained tensors, once the checkpoint before is written."""
        self.finish()
        module = self._module()
        trained = trained_shapes(module)
        return {name: value for name, value in module.state_dict().items() if name in trained}

    def _module(self) -> BuiltModule:
        return cast("BuiltModule", self.lightning_module)

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return this process's part of an optimiser's state, by names of parameters."""
        assert self.model is not None
        return dict(get_optimizer_state_dict(self.model, getattr(optimizer, "_optimizer", optimizer)))

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint, or begin to. Raises StoreError on all processes where one cannot write."""
        self._group = self._group or dist.new_group(backend="gloo", timeout=timedelta(minutes=MINUTES))
        path = Path(self.broadcast(str(filepath)))
        name, owner = self.broadcast((new_name(path), os.getpid()))
        optimizers = checkpoint.get("optimizer_states", [])
        state = {"state_dict": checkpoint["state_dict"]}
        state |= {f"optimizer_{n}": own["state"] for n, own in enumerate(optimizers)}
        groups = [{"state": {}, "param_groups": own["param_groups"]} for own in optimizers]
        shards = {"folder": name, "processes": self.world_size}
        small = {**checkpoint, "state_dict": {}, "optimizer_states": groups, SHARDS: shards}
        part = path.parent / f".{name}.{owner}.part"
        if self.save_beside_training:
            state = self._staged(state)
        self._pending = self._writer.submit(self._write, state, small, path, part)
        if not self.save_beside_training:
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written. Raises StoreError where it was not."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _staged(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a copy in the CPU's memory, pinned where there is a GPU and kept for the next one."""
        if self._stager is None:
            gpu = torch.cuda.is_available()
            self._stager = DefaultStager(StagingOptions(gpu, False, False, gpu))
        staged: Any = self._stager.stage(state)
        return dict(staged)

    def _write(self, state: dict[str, Any], small: dict[str, Any], path: Path, part: Path) -> None:
        """Write shards into a temporary folder, rename it, and let the checkpoint's file name them."""
        first, name = self.is_global_zero, str(small[SHARDS]["folder"])
        try:
            together(self._group, path, lambda: prepare(path, part) if first else None)
            found = together(self._group, path, lambda: write_shards(state, part, self._group))
            small[SHARDS]["files"] = {file: entry for files in found for file, entry in files.items()}
            together(self._group, path, lambda: self._commit(small, path, part, name) if first else None)
        finally:
            if first:
                shutil.rmtree(part, ignore_errors=True)

    def _commit(self, small: dict[str, Any], path: Path, part: Path, name: str) -> None:
        sync_tree(part)
        part.rename(path.parent / name)
        sync_folder(path.parent)
        self.checkpoint_io.save_checkpoint(small, path)
        remove_shards(path, keep=name)

    def remove_checkpoint(self, filepath: Any) -> None:
        """Remove a checkpoint, once the one that replaces it is written."""
        self.finish()
        super().remove_checkpoint(filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read this process's part of a checkpoint of any number of processes. Raises ResumeError for a damaged one."""
        path = Path(self.broadcast(str(checkpoint_path)))
        checkpoint: dict[str, Any] = self.checkpoint_io.read(path, "cpu", mmap=True)  # type: ignore[attr-defined]
        module = self._module()
        check_fits(type(module).__name__, module._trained, checkpoint)
        own = {name: value for name, value in module.state_dict().items() if name in module._trained}
        state: dict[str, Any] = {"state_dict": own}
        optimizers = [self.optimizer_state(optimizer) for optimizer in self.optimizers]
        state |= {f"optimizer_{n}": found["state"] for n, found in enumerate(optimizers)}
        if shards := checkpoint.get(SHARDS):
            faults = [found for found in gather(differing(path, shards, self.global_rank, self.world_size)) if found]
            if faults:
                raise ResumeError(f"checkpoint {path} is damaged: {faults[0]}")
            fill(state, path.parent / shards["folder"])
        else:
            whole = {"state_dict": checkpoint["state_dict"]}
            for n, found in enumerate(optimizers):
                saved = named(checkpoint["optimizer_states"][n], found["param_groups"])
                whole[f"optimizer_{n}"] = saved["state"]
            give_all(state, whole)
        for optimizer, found, saved in zip(self.optimizers, optimizers, checkpoint["optimizer_states"], strict=False):
            found["param_groups"] = settled(saved["param_groups"], found["param_groups"])
            set_optimizer_state_dict(module, optimizer, optim_state_dict=found)
        return {**checkpoint, "state_dict": {}}

    def teardown(self) -> None:
        """Let the last checkpoint be written, then end."""
        try:
            self.finish()
        finally:
            self._writer.shutdown()
            super().teardown()
