"""The page that compares with TRL names every field of TRL's configurations, and only settings that we have."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from lightning import Trainer

from align.data.batching import Batching
from align.data.encoding import EncodingConfig
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.sft import SFTModule
from align.training.optimizer import Optimizer
from tests.docs.commands import ROOT
from tests.objectives.test_against_trl import LOSSES

PAGE = re.sub(
    r"^```.*?^```", "", (ROOT / "docs" / "trl.md").read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
)
NAME = re.compile(r"`([^`]+)`")
GROUPS = {
    "model.backbone": {field.name for field in fields(Backbone)},
    "model.optimizer": {field.name for field in fields(Optimizer)},
    "data.batching": {field.name for field in fields(Batching)},
    "data.encoding": {field.name for field in fields(EncodingConfig)},
    "trainer": set(inspect.signature(Trainer).parameters),
    "model": {name for method in (DPOModule, SFTModule) for name in inspect.signature(method).parameters},
    "model.objective": {"beta", "label_smoothing", "desirable_weight", "undesirable_weight", "centering"},
    "data": {"path", "splits", "encoding"},
}
CONFIGS = ("base", "dpo", "kto", "sft", "reward")


def section(title: str) -> list[list[str]]:
    """Return the rows of the tables under a heading."""
    text = PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]
    return [row for row in rows if row[0] != "`loss_type`" or len(row) == 2]


def keys(title: str) -> set[str]:
    return {name for row in section(title) for name in NAME.findall(row[0])}


def fields_of(config: str) -> set[str]:
    """Return the fields that a configuration of TRL has beside its base class's."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "trainer" / f"{config}_config.py").read_text())
    body = [node for kind in tree.body if isinstance(kind, ast.ClassDef) for node in kind.body]
    return {n.target.id for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_stands_on_the_page(config: str) -> None:
    shared = keys("Of every trainer")
    own = set() if config == "base" else keys({"reward": "RewardConfig"}.get(config, f"{config.upper()}Config"))
    told = own | shared
    assert fields_of(config) - told - {"_VALID_DICT_FIELDS"} == set()
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}.union(*map(fields_of, CONFIGS))
    assert shared - known == set()
    losses = set(LOSSES) if config == "dpo" else set()  # rows of the table of losses
    assert own - losses - fields_of(config) == set()


def test_every_loss_has_its_objective() -> None:
    rows = {NAME.findall(row[0])[0]: NAME.findall(row[1])[0] for row in section("DPOConfig") if len(row) == 3}
    assert rows == {name: f"{type(ours).__module__}.{type(ours).__name__}" for name, (_, ours) in LOSSES.items()}


def test_our_side_exists() -> None:
    for name in NAME.findall(PAGE):
        path, _, last = name.rpartition(".")
        if path in GROUPS:
            assert last in GROUPS[path], name
        elif name.startswith("align.") and " " not in name:
            assert hasattr(import_module(path), last), name
        elif name.startswith("configs/"):
            assert (ROOT / name).is_file(), name
    for row in section("DPOConfig"):
        if len(row) == 3:
            assert (ROOT / "configs" / "method" / f"{NAME.findall(row[2])[0]}.yaml").is_file()
