"""`align init world`: the tokenizer and the base model of the synthetic world, trained from scratch."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

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
from align.strict_json import json_text
from align.training.optimizer import Optimizer
from align.world.language import TAGS, vocabulary
from align.world.universe import World


def init_world(
    out: str = "runs/world/base",
    *,
    world: World = World(),
    checked_rows: int = 16_000,
    rows: int = 22_000,
    hidden_size: int = 128,
    num_hidden_layers: int = 4,
    seed: int = 0,
) -> None:
    """Train the base model of the synthetic world and write it with a report of what it can do.

    It learns in two stages: first answers whose facts are checked, until it knows the facts and can tell a wrong one,
    then answers of mixed quality to everything. A folder made with the same settings is kept as it is.

    Args:
        out: Folder to write; logs go to OUT-training.
        world: The universe.
        checked_rows: Rows of the first stage.
        rows: Rows of the second stage.
        hidden_size: Width of the hidden states.
        num_hidden_layers: Number of blocks.
        seed: Decides weights, rows and their order.
    """
    quiet()
    if min(checked_rows, rows) < 1000:
        raise ConfigError(f"checked_rows and rows must be at least 1000, got {checked_rows} and {rows}")
    folder, work = Path(out), Path(f"{out}-training")
    sizes = {"hidden_size": hidden_size, "num_hidden_layers": num_hidden_layers}
    settings = {**asdict(world), **sizes, "checked_rows": checked_rows, "rows": rows, "seed": seed}
    if (folder / BASE_REPORT).exists() and read_json(folder / BASE_REPORT)["settings"] == settings:
        print(f"{folder}: already there, made with the same settings")
        return
    if folder.exists():
        raise ConfigError(f"out {folder}: already there, made with other settings: name another folder or remove it")
    shutil.rmtree(work, ignore_errors=True)
    _start(work / "start", sizes, seed)
    facts = Corpus(checked_rows, world, checked=1.0, tagged=0.0, seed=seed)
    _stage(work / "start", work / "facts", facts, Optimizer(3e-3, adam_beta2=0.95), groups=30, seed=seed)
    answers = Corpus(rows, world, seed=seed)
    module = _stage(work / "facts", work / "answers", answers, Optimizer(2e-3, adam_beta2=0.95), groups=48, seed=seed)
    quality = measure_base(module.model, module.tokenizer, world)
    report = {**asdict(quality), "faults": quality.faults(), "settings": settings}
    (work / "answers" / BASE_REPORT).write_text(json_text(report, indent=2))
    os.replace(work / "answers", folder)
    print(f"{folder}:", ", ".join(f"{name} {value:.3f}" for name, value in asdict(quality).items()))
    if quality.faults():
        raise ModelError(f"{folder}: the base falls short ({'; '.join(quality.faults())}): raise checked_rows or rows")


def _start(folder: Path, sizes: dict[str, int], seed: int) -> None:
    """Write tokenizer and random weights.

    The embeddings are not tied to the output layer, which would push instruction tokens, never predicted, together.
    """
    tokenizer = word_tokenizer(vocabulary(), TAGS)
    model = new_llama(tokenizer, **sizes, max_positions=256, tied=False, seed=seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"base: Llama with {model.num_parameters():,} parameters, {len(tokenizer)} tokens")


def _stage(start: Path, out: Path, corpus: Corpus, optimizer: Optimizer, *, groups: int, seed: int) -> SFTModule:
    """Fine-tune on one corpus and export; steps of mixed lengths, which learn the facts sooner."""
    L.seed_everything(seed)
    data = PreferenceDataModule(
        [corpus],
        view=Singles("all"),
        encoding=EncodingConfig(cache_dir=str(out.parent / "tokenised")),
        batching=Batching(groups=groups),
        splits=Splits(0.005),
        seed=seed,
    )
    module = SFTModule(Backbone(str(start)), optimizer=optimizer)
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
