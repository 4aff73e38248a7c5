"""`align check` reads the options of `align fit`: what it shows follows each that decides it."""

from __future__ import annotations

import pytest

from align.cli.check import run
from tests.cli.observing import Observed, Verb, check
from tests.test_configs import CPU, METHOD

CHECK = Verb(
    run,
    "check",
    {
        "dpo": (
            *("-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--data.path", "THINGS/pairs.jsonl"),
            *("--model.backbone.path", "THINGS/plain", "--check", "off"),
        )
    },
    {
        "model.backbone.lora.r": ("--model.backbone.lora.r", "2"),
        "model.objective": ("--model.objective", "IPO"),
        "data.path": ("--data.path", "THINGS/pairs2.jsonl"),
        "data.max_samples": ("--data.max_samples", "2"),
        "data.columns": ("--data.columns", "{chosen: rejected, rejected: chosen}"),
        "data.batching.groups": ("--data.batching.groups", "2"),
        "data.batching.tokens": ("--data.batching.tokens", "64"),
        "check": ("--check", "on"),
        "ckpt_path": ("--ckpt_path", "x.ckpt"),
    },
    refused={("dpo", "ckpt_path"): "nothing is trained or written here"},
)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "option"), CHECK.cases())
def test_option(mode: str, option: str, observed: Observed) -> None:
    check(CHECK, mode, option, observed)
