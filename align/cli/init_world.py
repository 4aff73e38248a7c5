"""`align init world`: the tokenizer and the base model of the synthetic world, trained from scratch."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from align.cli.functions import FunctionVerb
from align.cli.start import quiet
from align.data.batching import Batching
from align.data.data_module import PreferenceDataModule
from align.data.encoding import EncodingConfig
from align.data.splits import Splits
from align.data.synthetic import Corpus
from align.data.views import Singles
from align.errors import ConfigError, ModelError
from align.evaluation.base_quality import measure_base
from align.models.backbone import Backbone
from align.models.folder_checks import BASE_REPORT, read_json
from align.models.small import new_llama, word_tokenizer
from align.modules.sft import SFTModule
from align.sampling.trained_module import TrainedModule
from align.strict_json import json_text
from align.training.optimizer import Optimizer
from align.world.language import TAGS, vocabulary
from align.world.universe import World


class Stage(NamedTuple):
    """How much of what the base learns from, and at what rate."""

    rows: int
    step: int
    """Rows of an optimiser step."""
    rate: float
    shares: dict[str, float]
    """Of kinds of rows, see Corpus."""


LAYERS = {1: 4, 2: 6}
STAGES = {
    1: (Stage(16_000, 30, 3e-3, {"checked": 1.0, "tagged": 0.0}), Stage(22_000, 48, 2e-3, {})),
    2: (Stage(20_000, 20, 3e-3, {"plain": 0.6}), Stage(16_000, 32, 1e-3, {})),
}
"""By the version of the world."""


def init_world(
    out: str = "runs/world/base",
    *,
    world: World = World(),
    checked_rows: int | None = None,
    rows: int | None = None,
    hidden_size: int = 128,
    num_hidden_layers: int | None = None,
    seed: int = 0,
) -> None:
    """Train the base model of the synthetic world and write it with a report of what it can do.

    It learns in two stages: first facts (in world 1 in answers that check each of them, in world 2 mostly stated
    alone), then answers of mixed quality to everything. A folder made with the same settings is kept as it is. Its
    config.json says which world it belongs to, as that of every model trained from it: none is trained or measured in
    another one.

    Args:
        out: Folder to write; logs go to OUT-training.
        world: The universe.
        checked_rows: Rows of the first stage; null is 16,000, in world 2 20,000.
        rows: Rows of the second stage; null is 22,000, in world 2 16,000.
        hidden_size: Width of the hidden states.
        num_hidden_layers: Number of blocks; null is 4, in world 2 6.
        seed: Decides weights, rows and their order.
    """
    quiet()
    usual = STAGES[world.version]
    checked_rows, rows = (stage.rows if n is None else n for stage, n in zip(usual, (checked_rows, rows), strict=True))
    if min(checked_rows, rows) < 1000:
        raise ConfigError(f"checked_rows and rows must be at least 1000, got {checked_rows} and {rows}")
    folder, work = Path(out), Path(f"{out}-training")
    layers = LAYERS[world.version] if num_hidden_layers is None else num_hidden_layers
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": layers}
    settings = {**world.settings, **sizes, "checked_rows": checked_rows, "rows": rows, "seed": seed}
    if (folder / BASE_REPORT).exists() and _same(read_json(folder / BASE_REPORT), settings, world):
        print(f"{folder}: already there, made with the same settings")
        return
    if folder.exists():
        raise ConfigError(f"out {folder}: already there, made with other settings: name another folder or remove it")
    if world.version == 2 and rows <= usual[1].rows:
        print("the base of world 2 falls short after so many rows, and no run starts from it: docs/how-to/world.md")
    shutil.rmtree(work, ignore_errors=True)
    _start(work / "start", world, sizes, seed)
    for stage, count, name in zip(usual, (checked_rows, rows), ("facts", "answers"), strict=True):
        corpus = Corpus(count, world, **stage.shares, seed=seed)
        module = _learn(work / ("start" if name == "facts" else "facts"), work / name, corpus, stage, seed=seed)
    quality = measure_base(module.model, module.tokenizer, world)
    report = {**asdict(quality), "faults": quality.faults(), "settings": settings, "world": world.settings}
    (work / "answers" / BASE_REPORT).write_text(json_text(report, indent=2))
    os.replace(work / "answers", folder)
    known = {name: value for name, value in asdict(quality).items() if value is not None}
    print(f"{folder}:", ", ".join(f"{name} {value:.3f}" for name, value in known.items()))
    if quality.faults():
        raise ModelError(f"{folder}: the base falls short ({'; '.join(quality.faults())}): raise checked_rows or rows")


def _same(report: dict[str, Any], settings: dict[str, Any], world: World) -> bool:
    """Tell whether a report was made with settings; one of before there were other worlds has no `world`."""
    kept = report["settings"]
    same = all(kept.get(name) == value for name, value in settings.items() if name not in world.settings)
    known = report.get("world", {**kept, "seed": 0})
    return same and kept.get("seed") == settings["seed"] and World.of(known).settings == world.settings


def _start(folder: Path, world: World, sizes: dict[str, int], seed: int) -> None:
    """Write tokenizer and random weights.

    The embeddings are not tied to the output layer, which would push instruction tokens, never predicted, together.
    """
    tokenizer = word_tokenizer(vocabulary(world.version), TAGS)
    model = new_llama(tokenizer, **sizes, max_positions=256, tied=False, seed=seed)
    model.config.synthetic_world = world.settings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"base: Llama with {model.num_parameters():,} parameters, {len(tokenizer)} tokens")


def _learn(start: Path, out: Path, corpus: Corpus, stage: Stage, *, seed: int) -> TrainedModule:
    """Fine-tune on one corpus and export; steps of mixed lengths, which learn the facts sooner."""
    L.seed_everything(seed)
    data = PreferenceDataModule(
        [corpus],
        view=Singles("all"),
        encoding=EncodingConfig(cache_dir=str(out.parent / "tokenised")),
        batching=Batching(groups=stage.step),
        splits=Splits(0.005),
        seed=seed,
    )
    module = SFTModule(Backbone(str(start)), optimizer=Optimizer(stage.rate, adam_beta2=0.95))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=TensorBoardLogger(out.parent, name="", version=f"logs-{out.name}"),
    )
    trainer.fit(module, data)
    module.export(out)
    return module


VERB = FunctionVerb(init_world)
