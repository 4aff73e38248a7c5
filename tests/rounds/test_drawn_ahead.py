"""Rounds that servers draw while the round before is trained on: by which weights, what corrects it, kills, refusals."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoModelForCausalLM

from align.data.batching import Batching
from align.data.synthetic import SyntheticDataModule
from align.models.backbone import LoRA
from align.rounds.weights import policy_hash
from align.sampling.generation import Generation, sample_key
from align.sampling.server_pool import IMPORTANCE_CAP, ServerPool
from align.world.preferences import Preferences
from tests.modules.fitting import fit
from tests.rounds.runs import world_model
from tests.rounds.test_online import grpo, rounds
from tests.rounds.test_pool import loads, stored
from tests.sampling.vllm_server import Served, vllm_serve

__all__ = ["world_model"]
DRAWN = Generation(max_new_tokens=6, num_samples=4)


class Starts(Callback):
    """Writes down the adapter that every round begins to be trained with, and its hash."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.adapters: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.hashes.append(policy_hash(pl_module))
            found = peft.get_peft_model_state_dict(pl_module.model)
            self.adapters.append({name: values.detach().clone() for name, values in found.items()})


def begun(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Of every round, the weights it is drawn by and its manifest."""
    with sqlite3.connect(root / "rounds" / "rounds.sqlite") as db:
        rows = db.execute("SELECT policy, manifest FROM round ORDER BY number").fetchall()
    return [(policy, json.loads(manifest or "{}")) for policy, manifest in rows]


def asked_by_round(server: Served, root: Path, seed: int) -> list[set[str]]:
    """Of every round, the names of the policies its samples were asked of, told by the seeds of the requests."""
    rounds_of = {sample_key(seed, r, p, n) % 2**31: r for r, p, n in stored(root)}
    found: list[set[str]] = [set() for _ in set(rounds_of.values())]
    for row in server.asked("completions"):
        if row["max_tokens"] == DRAWN.max_new_tokens:
            found[rounds_of[row["seed"]]].add(row["model"])
    return found


def test_each_round_is_drawn_by_the_weights_the_one_before_began_with(world_model: Path, tmp_path: Path) -> None:
    """The expected numbers are plain forward passes of PEFT, by the adapters as the rounds began."""
    starts = Starts()
    with vllm_serve(world_model, tmp_path) as server:
        module = grpo(world_model, lora=LoRA(r=4))
        data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3), seed=0)
        pool = ServerPool([server.url], concurrency=2)
        resampling = rounds(generation=DRAWN, engine=pool, ahead=1)
        log = fit(module, data, callbacks=[resampling, starts], max_epochs=3, default_root_dir="run")
        asked = asked_by_round(server, Path("run"), data.run_seed)
        order = [row["lora_name"] for row in server.asked("load_lora_adapter")]
    told = begun(Path("run"))
    drawn_by = [0, 0, 1]
    assert [policy for policy, _ in told] == [starts.hashes[n] for n in drawn_by]
    print([manifest["metrics"] for _, manifest in told])
    print(asked, order)
    print(log.series("train/engine_ratio"), log.series("train/engine_difference"))
