"""Configs of papers carry their limits, steps, epochs and schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from align.cli.export import build_module
from align.data.encoding import EncodingConfig
from tests.test_configs import ONLINE

ROOT = Path(__file__).parents[1]

PAPERS = {
    **dict.fromkeys(
        ("pro", "pro_first_term", "pro_no_sft", "pro_no_temperature", "pro_released", "sft_pro"), (384, 512)
    ),
    **dict.fromkeys(("rahf_dual", "rahf_dual_code", "rahf_dual_paper", "rahf_single"), (256, 512)),
    **dict.fromkeys(("rahf_dual_stage1", "rahf_single_stage1", "rahf_single_stage1_paper"), (256, 512)),
    **dict.fromkeys(("dpa", "steerlm"), (None, 4096)),
    **dict.fromkeys(("reward_model",), (None, 2048)),
}
"""Methods whose papers or released code have limits of their own: of a prompt, and of all."""


@pytest.mark.parametrize("name", PAPERS)
def test_limits_of_papers_hold_unless_the_data_say_otherwise(name: str) -> None:
    spec = yaml.safe_load((ROOT / "configs" / "method" / f"{name}.yaml").read_text())["model"]
    spec["init_args"]["backbone"] = {**spec["init_args"].get("backbone", {}), "path": "y"}
    module = build_module(spec)
    module.max_positions = 5000
    limits = EncodingConfig().limits(module)
    assert (limits.max_prompt, limits.max_total) == PAPERS[name]
    assert EncodingConfig(truncation="usual").limits(module).max_total == 2048


STEPS = {
    **dict.fromkeys(("pro", "pro_first_term", "pro_no_sft", "pro_no_temperature", "pro_released"), 112),
    **dict.fromkeys(("simpo", "rahf_dual_stage1"), 128),
    **dict.fromkeys(("rahf_dual", "rahf_dual_code", "rahf_dual_paper"), 8),
    "lorra": 16,
}
"""Groups of a step where the method's paper or code has another number than 64."""


EPOCHS = {
    **dict.fromkeys(("pro", "pro_first_term", "pro_no_sft", "pro_no_temperature", "pro_released"), 2),
    **dict.fromkeys(("rahf_single_stage1", "rahf_single_stage1_paper", "steerlm"), 2),
    "rahf_dual_stage1": 3,
    "dpa": 10,  # t = 0 to 4, two epochs each
}


LAST_STEP = {"rahf_single": 450, **dict.fromkeys(("rahf_dual", "rahf_dual_code", "rahf_dual_paper"), 2500), "lorra": 70}


OPTIMIZERS = {
    **dict.fromkeys(STEPS.keys() & EPOCHS.keys() - {"rahf_dual_stage1"}, ("constant", 0, 0.01)),
    **dict.fromkeys(("rahf_single", "rahf_dual", "rahf_dual_code", "rahf_dual_paper", "lorra"), ("constant", 0, 0.0)),
    **dict.fromkeys(("rahf_single_stage1", "rahf_single_stage1_paper", "hir"), ("linear", 100, 0.0)),
    **dict.fromkeys(("dpa", "steerlm"), ("cosine", 20, 0.0)),
    **dict.fromkeys(ONLINE, ("constant_with_warmup", 100, 0.0)),  # nobody knows how long an online run will be
}
"""Schedule, warm-up steps of 1000, and weight decay where they are a paper's; cosine, 100 and none otherwise."""


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "method").glob("*.yaml")), ids=lambda path: path.stem)
def test_steps_epochs_and_schedules_are_those_of_the_papers(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    spec, trainer = config["model"], config.get("trainer", {})
    spec["init_args"]["backbone"] = {**spec["init_args"].get("backbone", {}), "path": "y"}
    module = build_module(spec)
    assert module.step_groups == STEPS.get(path.stem, 64)
    assert (trainer.get("max_epochs", 1), trainer.get("max_steps")) == (
        EPOCHS.get(path.stem, 1),
        LAST_STEP.get(path.stem),
    )
    optimizer = module.optimizer
    warm_up = 0 if optimizer.lr_scheduler_type == "constant" else optimizer.warmup(1000)
    found = (optimizer.lr_scheduler_type, warm_up, optimizer.weight_decay)
    assert found == OPTIMIZERS.get(path.stem, ("cosine", 100, 0.0))
