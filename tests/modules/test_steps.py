"""A step is what it is: the same loss and gradient however it is cut, and its counts, limits and refusals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor
from torch.utils.data import DataLoader

from align.data.batching import Batching
from align.data.positions import Positions
from align.data.splits import Splits
from align.errors import ConfigError, DataError
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.pro import PROModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.objectives.list_sum import ListSum
from align.objectives.lists import LiPO
from align.objectives.optimal_transport import AOT
from align.objectives.pointwise import BCO, KTO
from align.objectives.representation import RepresentationAlignment
from align.objectives.reward import BradleyTerry
from align.objectives.scored import SPPO
from align.objectives.sets import InfoNCA, SetContrast
from align.objectives.strength import ScaledBradleyTerry
from align.records import CandidateBatch, Step, StepTotals
from align.training.base_module import AlignModule
from align.training.optimizer import Optimizer
from tests.formulas.preferences import Pair, aot
from tests.modules.aligned import TEXTS, adapters, single, tiny
from tests.modules.fitting import Log, fit, pairs_data
from tests.tiny import random_batch

STILL = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")
BUDGETS = (64, 512, 10**6)
TIGHT = 120
"""A budget that some pairs exceed."""
MAKERS: dict[str, Any] = {
    "sft": lambda folder: SFTModule(double(folder), optimizer=STILL),
    "dpo": lambda folder: DPOModule(double(folder), optimizer=STILL),
    "kto": lambda folder: DPOModule(double(folder), KTO(), optimizer=STILL),
    "bco": lambda folder: DPOModule(double(folder), BCO(), optimizer=STILL),
    "pro": lambda folder: PROModule(double(folder), optimizer=STILL),
    "reward_model": lambda folder: RewardModel(double(folder), optimizer=STILL),
}


def double(folder: Path) -> Backbone:
    return Backbone(str(folder), dtype="float64")


class Steps(L.Callback):
    """Keeps the ids and the gradients of every step, and how many micro-batches it had."""

    def __init__(self) -> None:
        self.ids: list[frozenset[str]] = []
        self.micro: list[int] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Step, batch_idx: int) -> None:
        self.ids.append(frozenset(batch.ids))
        self.micro.append(len(batch))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        named = pl_module.named_parameters()
        self.gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})


def watched(module: AlignModule, pairs: Path, batching: Batching, **options: Any) -> tuple[Log, Steps]:
    steps = Steps()
    log = fit(module, pairs_data(pairs, batching=batching), callbacks=[steps], **options)
    return log, steps


def compare(found: tuple[Log, Steps], expected: tuple[Log, Steps]) -> None:
    assert found[1].ids == expected[1].ids
    assert found[0].series("train/loss") == pytest.approx(expected[0].series("train/loss"), rel=1e-6)
    for mine, theirs in zip(found[1].gradients, expected[1].gradients, strict=True):
        assert mine.keys() == theirs.keys()
        for name, gradient in theirs.items():
            torch.testing.assert_close(mine[name], gradient, rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize("method", MAKERS)
def test_steps_are_the_same_for_any_budget(method: str, model_folder: Path, scored_file: Path) -> None:
    runs = [
        watched(MAKERS[method](model_folder), scored_file, Batching(groups=8, tokens=tokens), max_steps=3)
        for tokens in BUDGETS
    ]
    assert runs[2][1].micro == [1] * 3
    assert min(runs[0][1].micro) > max(runs[1][1].micro)  # so that something is compared
    for run in runs[:2]:
        compare(run, runs[2])


@pytest.mark.parametrize("objective", [KTO(), AOT()], ids=["kto", "aot"])
def test_validation_is_the_same_for_any_budget(objective: Any, model_folder: Path, scored_file: Path) -> None:
    """Of losses that read a whole step: AOT's is sorted by hand over the steps that validation is put into."""
    found, data = list[dict[str, float]](), pairs_data(scored_file)
    for tokens in BUDGETS:
        module = DPOModule(double(model_folder), objective, optimizer=STILL)
        data = pairs_data(scored_file, batching=Batching(groups=4, tokens=tokens), splits=Splits(0.5))
        rows = fit(module, data, limit_train_batches=1, num_sanity_val_steps=0).rows
        found.append({name: value for row in rows for name, value in row.items() if name.startswith("val/")})
    assert found[0] == pytest.approx(found[2], rel=1e-6)
    assert found[1] == pytest.approx(found[2], rel=1e-6)
    assert found[0]["val/rows"] == len(data.groups["val"])
    steps = [step.ids for step in data.val_dataloader()]
    assert len(steps) == len(data.groups["val"]) // 4 > 1
    if isinstance(objective, AOT):
        batch = CandidateBatch.of(data.groups["val"][range(len(data.groups["val"]))])
        scored = (module.score(batch).logprobs, module.reference_scores(batch).logprobs)
        rows = dict(
            zip(batch.ids, torch.stack(scored).view(2, -1, 2).permute(1, 0, 2).flatten(1).tolist(), strict=True)
        )
        pairs = [[Pair(*rows[name], 1, 1) for name in step] for step in steps]
        losses = [loss for step in pairs for loss in aot(step, objective.beta, 0.0)]
        assert found[0]["val/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)


@pytest.mark.parametrize("layout", ["auto", "padded"])
def test_the_budget_counts_positions_of_the_layout_in_use(
    layout: Any, model_folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and validation, by what the module says it computes; what is larger alone is told, once."""
    told: list[str] = []
    monkeypatch.setattr("align.data.steps.rank_zero_info", told.append)
    module = DPOModule(Backbone(str(model_folder), layout=layout))
    data = pairs_data(pairs_file, batching=Batching(groups=16, tokens=TIGHT), splits=Splits(0.3))
    seen: dict[bool, int] = {True: 0, False: 0}

    def loss(batch: CandidateBatch, totals: StepTotals) -> Tensor:
        seen[module.trainer.training] += 1
        taken, _ = module.positions(batch)
        assert taken <= TIGHT or len(batch.group_sizes) == 1
        return DPOModule.loss(module, batch, totals)

    monkeypatch.setattr(module, "loss", loss)
    fit(module, data)
    assert min(seen.values()) > 4
    alone = Positions.of(data.groups["train"].extents, module.row_layout()).alone
    (line,) = [line for line in told if line.startswith("train: WARNING")]
    assert f"{(alone > TIGHT).sum()} of {len(alone)} groups take" in line


def test_steps_of_rahf_are_the_same_for_any_budget(tmp_path: Path, scored_file: Path) -> None:
    base, runs = tiny(tmp_path), []
    stage1 = adapters(base, tmp_path / "one", ["."], 0.1, TEXTS)
    for tokens in BUDGETS:
        torch.manual_seed(0)  # the same fresh adapter
        module = single(base, stage1, objective=RepresentationAlignment(alpha=2.0), backbone=double(base))
        runs.append(watched(module, scored_file, Batching(groups=8, tokens=tokens), max_steps=2))
    assert max(runs[0][1].micro) > 1 == max(runs[2][1].micro)
    for run in runs[:2]:
        compare(run, runs[2])


def test_mixed_precision_accumulates(model_folder: Path, pairs_file: Path) -> None:
    losses = []
    for tokens in (200, 10**6):
        module = DPOModule(Backbone(str(model_folder)), optimizer=STILL)
        log, _ = watched(module, pairs_file, Batching(groups=20, tokens=tokens), precision="bf16-mixed")
        losses.append(log.series("train/loss"))
        assert "train/skipped_steps" not in log.rows[-1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0][0] == pytest.approx(0.6931, abs=1e-2)


def test_limits_count_steps(model_folder: Path, pairs_file: Path) -> None:
    """Every step is whole, whatever the limit; the schedule runs over the steps."""
    optimizer = Optimizer(learning_rate=1e-3, warmup_ratio=0.0, lr_scheduler_type="linear")
    module = SFTModule(double(model_folder), optimizer=optimizer)
    log, steps = watched(module, pairs_file, Batching(groups=8, tokens=128), limit_train_batches=4, max_epochs=2)
    assert [len(ids) for ids in steps.ids] == [8] * 8
    assert min(steps.micro) > 1
    assert log.series("train/lr") == pytest.approx([1e-3 * (8 - n) / 8 for n in range(8)])


def test_the_step_is_told_and_one_that_is_not_full_is_warned_of(
    model_folder: Path, pairs_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for groups, told in ((16, "a step is 16 groups, 3 steps an epoch"), (None, "a step is 64 groups, 1 step an epoch")):
        caplog.clear()
        with caplog.at_level("INFO"):
            watched(SFTModule(Backbone(str(model_folder))), pairs_file, Batching(groups=groups), max_steps=1)
        assert told in caplog.text
        assert ("WARNING 40 groups are fewer than a step has" in caplog.text) == (groups is None)


@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 4}, {"callbacks": [GradientAccumulationScheduler({0: 2})]}]
)
def test_accumulation_by_the_trainer_is_refused(options: Any, model_folder: Path, pairs_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.batching\.groups"):
        fit(SFTModule(Backbone(str(model_folder))), pairs_data(pairs_file), **options)


def test_plain_loaders_accumulate_as_before(model_folder: Path) -> None:
    """Batches that come without a data module, each a step's worth of totals by itself."""
    batches = [random_batch([2, 2], seed=n, vocab=200) for n in range(4)]
    module = DPOModule(double(model_folder), optimizer=STILL)
    log = Log()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=log,
        log_every_n_steps=1,
        accumulate_grad_batches=2,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert trainer.global_step == 2
    assert len(log.series("train/loss")) == 2


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4]), (3, [2, 4]), (5, [4]), (10, [4])])
def test_the_last_step_is_logged_however_seldom(
    every: int, expected: list[int], model_folder: Path, pairs_file: Path
) -> None:
    log = StepLog()
    options = {"logger": log, "log_every_n_steps": every, "limit_train_batches": 5}
    fit(DPOModule(Backbone(str(model_folder)), optimizer=STILL), pairs_data(pairs_file), **options)
    assert log.steps == expected
    assert {"train/loss", "train/grad_norm", "train/lr"} <= set(log.rows[-1])


class StepLog(Log):
    """Keeps the steps whose training metrics are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "train/loss" in metrics:
            assert step is not None
            self.rows.append(metrics)
            self.steps.append(step)


@pytest.mark.parametrize(
    ("module", "labels", "told"),
    [
        (lambda b: DPOModule(b, KTO()), [0.5], "labels must be 1"),
        (lambda b: DPOModule(b, SPPO()), [7.0], r"labels must be win rates in \[0, 1\]"),
        (lambda b: DPOModule(b, BCO()), [float("nan")], "needs a label for every response"),
        (PROModule, [1.0, 2.0], "rewards rise along a list"),
        (lambda b: PROModule(b, LiPO()), [1.0, float("nan")], "LiPO needs a reward for every response"),
        (lambda b: PROModule(b, ListSum([LiPO()], [1.0])), [1.0, float("nan")], "LiPO needs a reward for every"),
        (lambda b: PROModule(b, InfoNCA()), [1.0, float("nan")], "InfoNCA needs a reward for every response"),
        (lambda b: PROModule(b, SetContrast()), [1.0, float("nan")], "SetContrast needs a reward for every"),
        (lambda b: RewardModel(b, ScaledBradleyTerry()), [1.0, float("nan")], "ScaledBradleyTerry needs a score"),
        (lambda b: RewardModel(b, BradleyTerry(margin_scale=1.0)), [1.0, float("nan")], "margin_scale needs a score"),
    ],
)
def test_labels_are_looked_at_before_a_batch_goes_to_its_device(
    module: Any, labels: list[float], told: str, pairs_file: Path
) -> None:
    """Without a look at the model, which is on a device that nobody waits for."""
    batch = random_batch([len(labels)] * 2)._replace(scores=torch.tensor([*labels, *labels])[:, None])
    data = pairs_data(pairs_file)
    data.trainer = SimpleNamespace(lightning_module=module(Backbone("none")))  # type: ignore[assignment]
    with pytest.raises(DataError, match=told):
        data.on_before_batch_transfer(Step([batch]), 0)
    good = batch._replace(scores=torch.tensor([1.0, 0.0] * 2)[: len(labels) * 2, None])
    assert data.on_before_batch_transfer(Step([good]), 0) == Step([good])
