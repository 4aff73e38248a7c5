"""INPO in rounds: of its two anchors one stays the start and one is the policy as the round began."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from align.data.batching import Batching
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import FrozenCopy, MixtureTerm, PreviousRound, ReferenceMixture
from align.modules.dpo import DPOModule
from align.objectives.pairwise import IPO
from align.scoring import score_responses
from align.training.optimizer import Optimizer
from align.world.preferences import Preferences
from tests.modules.fitting import fit
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import command, world_model
from tests.rounds.test_round_loader import resampling
from tests.test_configs import ROOT

__all__ = ["world_model"]
TAU_ETA, ETA = 0.25, 0.2


def mixture() -> ReferenceMixture:
    return ReferenceMixture([MixtureTerm(FrozenCopy(), TAU_ETA), MixtureTerm(PreviousRound(), 1 - TAU_ETA)])


class Watch(Callback):
    """At the first step of every round, the loss by the paper's equation from three models' log-probabilities."""

    def __init__(self) -> None:
        self.expected: list[float] = []
        self.moved: list[bool] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx:
            return
        start, last = (anchor.reference.model for anchor in pl_module.reference.anchors)
        own = dict(pl_module.model.named_parameters())
        assert all(torch.equal(own[name], weight) for name, weight in last.named_parameters())
        self.moved.append(any(not torch.equal(own[name], weight) for name, weight in start.named_parameters()))
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
        with torch.no_grad():
            margins = [
                score_responses(m, batch[0]).logprobs.view(-1, 2) @ signs for m in (pl_module.model, start, last)
            ]
        policy, reference, previous = margins
        # (dl - (tau/eta) dl_ref - (1 - tau/eta) dl_t - 1 / (2 eta))^2
        losses = (policy - TAU_ETA * reference - (1 - TAU_ETA) * previous - 1 / (2 * ETA)) ** 2
        self.expected.append(losses.mean().item())


def test_three_rounds(world_model: Path) -> None:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    backbone, objective = Backbone(str(world_model), dtype="float64"), IPO(ETA, "sequence")
    module = DPOModule(backbone, objective, reference=mixture(), optimizer=Optimizer(learning_rate=1e-2))
    watch = Watch()
    log = fit(module, data, callbacks=[resampling(), watch], max_epochs=3, limit_val_batches=0, default_root_dir="run")
    losses = log.series("train/loss")
    steps = len(losses) // 3
    assert losses[::steps][:3] == pytest.approx(watch.expected, rel=1e-6)  # logged in float32
    assert watch.moved == [False, True, True]


def test_restart_is_refused(world_model: Path) -> None:
    data = SyntheticDataModule(Preferences(size=20, held_out_size=4), batching=Batching(groups=3, tokens=10**9), seed=0)
    module = DPOModule(Backbone(str(world_model)), IPO(ETA, "sequence"), reference=mixture())
    with pytest.raises(ConfigError, match="PreviousRound is the start where rounds restart"):
        fit(module, data, callbacks=[resampling(restart=True)], max_epochs=1, default_root_dir="run")


@pytest.mark.slow
def test_kills_inside_later_rounds(tmp_path: Path, world_model: Path) -> None:
    """The previous round's policy is the one it would have been."""
    rounds = str(ROOT / "configs" / "callbacks" / "inpo_rounds.yaml")
    own = command(world_model, method="inpo")
    place = own.index("--trainer.callbacks+")
    given = ["--trainer.callbacks.prompts", "12", "--trainer.callbacks.generation.max_new_tokens", "6"]
    watch = ["--trainer.callbacks+", "align.callbacks.checkpoint.Checkpoint", "--trainer.callbacks.every_n_steps", "2"]
    arguments = [*own[:place], "-c", rounds, *given, *watch]
    whole, cut = Run(tmp_path / "whole", arguments), Run(tmp_path / "cut", arguments)
    assert whole() == 0, whole.log
    assert cut(("batch_end", 5, int(signal.SIGKILL))) == KILLED, cut.log
    assert cut(("batch_end", 2, int(signal.SIGKILL))) == KILLED, cut.log
    assert cut() == 0, cut.log
    same(whole, cut)
