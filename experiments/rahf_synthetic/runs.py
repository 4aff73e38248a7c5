"""The runs of the study: method, learning rate, settings, and what each starts from."""

from __future__ import annotations

import json
from dataclasses import dataclass

from align.records import Instructions
from align.world.language import TAGS

TEXTS = Instructions(*TAGS, placement="system")


TAGGED = ("--model.instructions", json.dumps({"positive": TAGS[0], "negative": TAGS[1], "placement": "system"}))


EVERY = ("--model.backbone.lora", '{"r": 16, "lora_alpha": 32}')


LINEAR = ("--model.optimizer.lr_scheduler_type", "linear", "--model.optimizer.warmup_ratio", "0.0")


FIXED = ("--data.batching.groups",)


STEPS = "--trainer.limit_train_batches"


@dataclass(frozen=True)
class Run:
    """One fit, and how its model is prompted afterwards."""

    method: str
    rate: str
    words: tuple[str, ...] = ()
    after: str = ""
    """The run whose model folder is the first stage."""
    asked: str = ""
    """`positive` or `negative` instruction, or `good` marker."""
    backbone: str = ""
    """The run whose model folder is the base, where it is not the world's."""


def aligned(alpha: str, *more: str, layer: str = "[3]") -> tuple[str, ...]:
    """Return the settings of a second stage: 150 steps of 16 pairs at one layer."""
    own = ("--model.objective.alpha", alpha, "--model.reading.target_layers", layer, "--model.backbone.lora.r", "8")
    shape = ("--model.backbone.lora.lora_alpha", "16", "--model.backbone.lora.target_modules", '["q_proj", "v_proj"]')
    return (*own, *shape, *FIXED, "16", STEPS, "150", *more)


SINGLE_DATA = ("--model.reading.max_response", "64")


CLIP = "--model.objective.clip_v_relative"


LAST = ("--model.reading.include_last_prompt_token", "true")


RUNS: dict[str, Run] = {
    "SFT on chosen": Run("sft", "3e-4"),
    "DPO": Run("dpo", "5e-5"),
    "good and bad": Run("rahf_dual_stage1", "1e-3", (*EVERY, *LINEAR, *FIXED, "32", STEPS, "120")),
    "Dual, a 0.5": Run("rahf_dual", "3e-3", aligned("0.5", *LAST), "good and bad"),
    "Dual, a 1": Run("rahf_dual", "3e-3", aligned("1", *LAST), "good and bad"),
    "Dual, a 1, clip 0.1": Run("rahf_dual", "3e-3", aligned("1", CLIP, "0.1", *LAST), "good and bad"),
    "Dual, a 5": Run("rahf_dual", "3e-3", aligned("5", *LAST), "good and bad"),
    "Dual, a 5, clip 0.02": Run("rahf_dual", "3e-3", aligned("5", CLIP, "0.02", *LAST), "good and bad"),
    "HIR": Run("hir", "1e-3", (*TAGGED, *FIXED, "12", STEPS, "150"), asked="positive"),
    "SCIT, a 0.5": Run("rahf_single", "3e-3", (*TAGGED, *aligned("0.5"), *SINGLE_DATA), backbone="HIR"),
    "SCIT, a 1": Run("rahf_single", "3e-3", (*TAGGED, *aligned("1"), *SINGLE_DATA), backbone="HIR"),
    "SCIT, a 2": Run("rahf_single", "3e-3", (*TAGGED, *aligned("2"), *SINGLE_DATA), backbone="HIR"),
    "SCIT, a 5": Run("rahf_single", "3e-3", (*TAGGED, *aligned("5"), *SINGLE_DATA), backbone="HIR"),
    "LoRRA, a 5": Run("lorra", "3e-3", (*TAGGED, *aligned("5"))),
    "Chain of Hindsight": Run(
        "chain_of_hindsight",
        "3e-4",
        ("--data.view", "Hindsight", "--data.view.good", TAGS[0], "--data.view.bad", TAGS[1]),
        asked="good",
    ),
}
