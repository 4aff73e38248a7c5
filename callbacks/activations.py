"""Collects activations during any run: difference vectors, directions and probe accuracies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from align.activations import LayerRange, choose_layers, decoder_parts
from align.activations.artefact import VectorNote, save_vectors
from align.activations.layers import DUAL_DEPTHS
from align.callbacks.run_parts import data_of, module_of
from align.data.data_module import PreferenceDataModule
from align.errors import ConfigError
from align.evaluation.activation_collection import collect, contrast_of, measures
from align.records import CandidateBatch


class ActivationCollector(Callback):
    """Reads the model at the end of training, and at its start if asked, and writes vectors with their note.

    In `activations/` of the run folder: `vectors.safetensors` (`mean.LAYER`, `pca.LAYER`) and `vectors.json` (layers,
    instructions, data fingerprint, probe accuracies with length-only, random and shuffled controls). Vectors are by
    instruction where the method has instructions, else chosen less rejected. It needs pairs in training and validation
    data. Accuracies go to the loggers as `probe/layer_03/logistic` and so on, beside `probe/length_only`.
    `align generate --steer`, `align steer sweep` and `align steer export` take the file.
    """

    def __init__(
        self,
        layers: list[int] | LayerRange | None = None,
        *,
        pairs: int = 512,
        at_start: bool = False,
        folder: str | None = None,
    ) -> None:
        """Configure the collection.

        Args:
            layers: Which layers; null takes six around the middle.
            pairs: How many training pairs directions are taken from, and how many held-out ones are probed.
            at_start: Also collect before the first step, into `activations/start`.
            folder: Where to write; null writes `activations` in the run folder.
        """
        if pairs < 2:
            raise ConfigError(f"align.callbacks.activations.ActivationCollector: pairs must be at least 2, got {pairs}")
        self.layers, self.pairs, self.at_start, self.folder = layers, pairs, at_start, folder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect before training, where asked to. Raises ConfigError for rows that are streamed."""
        data = data_of(trainer, self)
        data.refuse_stream("align.callbacks.activations.ActivationCollector, which reads pairs in order,")
        if self.at_start and trainer.global_step == 0:
            self._write(trainer, pl_module, "start")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect after training."""
        self._write(trainer, pl_module, "")

    def _write(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        module, data = module_of(pl_module, self), data_of(trainer, self)
        if module.device_mesh is not None:
            raise ConfigError(
                "align.callbacks.activations.ActivationCollector cannot read a sharded model: leave it out"
            )
        path = (Path(self.folder) if self.folder else Path(trainer.default_root_dir) / "activations") / name
        layers = choose_layers(self.layers, DUAL_DEPTHS, len(decoder_parts(module.model).blocks))
        train, held_out = (
            collect(module.model, _on_device(trainer, data, split), layers, self.pairs, layout=module.backbone.layout)
            for split in ("train", "val" if "val" in data.groups else "train")
        )
        contrast, found = contrast_of(train)
        texts = {} if module.instructions is None else asdict(module.instructions)
        measured = measures(train, held_out, layers)
        for logger in [] if name else trainer.loggers:
            logger.log_metrics(probe_metrics(measured), step=trainer.global_step)
        note = VectorNote(
            layers=tuple(layers),
            contrast=contrast,
            model=module.backbone.path,
            instructions=texts,
            fingerprint=data.fingerprint,
            examples=len(train.pairs.chosen),
            measures={"held_out": "val" in data.groups, **measured},
        )
        save_vectors(path / "vectors.safetensors", {"mean": found.mean, "pca": found.pca}, note)
        rank_zero_info(f"activations of {len(train.pairs.chosen)} pairs written to {path}")


def probe_metrics(measured: dict[str, Any]) -> dict[str, float]:
    """Return the accuracies by the names they are logged under."""
    named = {
        f"probe/layer_{int(layer):02d}/{kind}": accuracy["value"]
        for kind, by_layer in measured["accuracy"].items()
        for layer, accuracy in by_layer.items()
    }
    return {**named, "probe/length_only": measured["length_only"]["value"]}


def _on_device(trainer: Trainer, data: PreferenceDataModule, split: str) -> Iterator[CandidateBatch]:
    for batch in data.batches_of(split):
        if any(size != 2 for size in batch.group_sizes):
            raise ConfigError("align.callbacks.activations.ActivationCollector needs pairs: set data.view to Pairs")
        yield trainer.strategy.batch_to_device(batch)
