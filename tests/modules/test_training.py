"""What all methods share in training: exact accumulation, small checkpoints, resumes, settings that reach the optimiser."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from align.callbacks.stop_at import StopAt
from align.data.batching import Batching
from align.data.splits import Splits
from align.errors import ConfigError, ResumeError
from align.models.backbone import Backbone, LoRA
from align.modules.dpo import DPOModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.records import StepTotals
from align.training.base_module import AlignModule
from align.training.optimizer import Optimizer
from align.training.run_length import check_length
from tests.modules.fitting import fit, pairs_data

METHODS = [SFTModule, RewardModel, DPOModule]
FAST = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")


def trained(module: AlignModule) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])


def build(method: type, folder: Path, **options) -> AlignModule:
    lora = options.pop("lora", None)
    return method(Backbone(str(folder), dtype="float64", lora=lora), optimizer=FAST, **options)


@pytest.mark.parametrize("method", METHODS)
def test_accumulation_equals_the_big_batch(method: type, model_folder: Path, pairs_file: Path) -> None:
    """Batches of very different token counts: a mean of micro-batch means would differ."""
    big, small = build(method, model_folder), build(method, model_folder)
    whole = fit(big, pairs_data(pairs_file, groups=40))
    parts = fit(small, pairs_data(pairs_file, batching=Batching(groups=40, tokens=500)))
    torch.testing.assert_close(trained(small), trained(big), rtol=1e-9, atol=1e-12)
    assert parts.series("train/loss") == pytest.approx(whole.series("train/loss"), rel=1e-6)
    assert len(parts.series("train/loss")) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", ["padded", "shared", "packed"])
def test_layouts_train_the_same(method: type, layout: str, model_folder: Path, pairs_file: Path) -> None:
    module = method(Backbone(str(model_folder), dtype="float64", layout=layout), optimizer=FAST)
    log = fit(module, pairs_data(pairs_file))
    reference = build(method, model_folder)
    expected = fit(reference, pairs_data(pairs_file))
    ours, theirs = log.series("train/loss"), expected.series("train/loss")
    assert ours[:2] == pytest.approx(theirs[:2], rel=1e-6)
    assert ours == pytest.approx(theirs, rel=1e-3)  # Adam's first steps are signs of gradients: tiny differences grow


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lora", [None, LoRA(r=4)])
def test_every_method_learns_its_training_pairs(
    method: type, lora: LoRA | None, model_folder: Path, pairs_file: Path
) -> None:
    log = fit(build(method, model_folder, lora=lora), pairs_data(pairs_file), max_epochs=3)
    losses = log.series("train/loss")
    assert sum(losses[-10:]) < 0.99 * sum(losses[:10])
    for name in ("train/accuracy", "train/rewards/accuracies", "train/margin", "train/rewards/margins"):
        series = log.series(name)
        assert not series or sum(series[-10:]) > sum(series[:10])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lora", [None, LoRA(r=4)])
def test_a_checkpoint_holds_trained_parameters_and_plain_values(
    method: type, lora: LoRA | None, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    module = build(method, model_folder, lora=lora)
    saver = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    fit(module, pairs_data(pairs_file), callbacks=[saver], enable_checkpointing=True)
    content = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert set(content["state_dict"]) == {name for name, p in module.named_parameters() if p.requires_grad}
    assert not any("reference_model" in name for name in content["state_dict"])
    assert content["align"]["method"] == method.__name__
    assert content["align"]["fingerprint"]


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_with_the_same_weights(
    method: type, model_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    whole = build(method, model_folder, lora=LoRA(r=2))
    fit(whole, pairs_data(pairs_file))
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=4, save_top_k=-1, filename="{step}")
    fit(
        build(method, model_folder, lora=LoRA(r=2)),
        pairs_data(pairs_file),
        callbacks=[saver],
        enable_checkpointing=True,
    )
    resumed = build(method, model_folder, lora=LoRA(r=2))
    log = fit(resumed, pairs_data(pairs_file), ckpt_path=str(tmp_path / "ckpt" / "step=4.ckpt"))
    assert len(log.series("train/loss")) == 6
    assert torch.equal(trained(resumed), trained(whole))


def test_foreign_checkpoints_are_refused_by_name(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    fit(
        build(SFTModule, model_folder, lora=LoRA(r=2)),
        pairs_data(pairs_file),
        callbacks=[saver],
        enable_checkpointing=True,
    )
    last = str(tmp_path / "ckpt" / "last.ckpt")
    with pytest.raises(ResumeError, match="the checkpoint belongs to SFTModule, this run is RewardModel"):
        fit(build(RewardModel, model_folder, lora=LoRA(r=2)), pairs_data(pairs_file), ckpt_path=last, max_epochs=2)
    with pytest.raises(ResumeError, match=r"parameters differ, first model.*lora_A.*\(2, 48\) saved, \(4, 48\) here"):
        fit(build(SFTModule, model_folder, lora=LoRA(r=4)), pairs_data(pairs_file), ckpt_path=last, max_epochs=2)


class TestMetrics:
    def test_names_are_the_fields(self, model_folder: Path, pairs_file: Path) -> None:
        data = {"splits": Splits(0.2)}
        rows = {m: fit(build(m, model_folder), pairs_data(pairs_file, **data)).rows for m in METHODS}
        names = {m: {name for row in r for name in row} for m, r in rows.items()}
        pairs = {
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "rewards/accuracies",
            "logps/chosen",
            "logps/rejected",
        }
        for phase in ("train", "val"):
            assert {f"{phase}/{n}" for n in {"loss", *pairs}} <= names[DPOModule]
            assert {f"{phase}/{n}" for n in ("loss", "accuracy", "margin", "rewards/chosen")} <= names[RewardModel]
            assert {f"{phase}/{n}" for n in ("loss", "nll", "length")} <= names[SFTModule]
        for found in names.values():
            assert {"train/lr", "train/grad_norm"} <= found

    @pytest.mark.parametrize("method", METHODS)
    def test_validation_loss_does_not_depend_on_the_batches(
        self, method: type, model_folder: Path, pairs_file: Path
    ) -> None:
        losses = []
        for batching in (Batching(tokens=100), Batching(tokens=100_000)):
            data = pairs_data(pairs_file, batching=batching, splits=Splits(0.4))
            module = method(Backbone(str(model_folder), dtype="float64"), optimizer=Optimizer(learning_rate=1e-12))
            losses.append(fit(module, data).series("val/loss")[-1])
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


class TestOptimizer:
    def test_warm_up_and_cosine(self, model_folder: Path, pairs_file: Path) -> None:
        module = SFTModule(Backbone(str(model_folder)), optimizer=Optimizer(learning_rate=1e-3, warmup_ratio=0.2))
        rates = fit(module, pairs_data(pairs_file)).series("train/lr")  # ten steps, two of warm-up
        assert rates[:3] == pytest.approx([0, 5e-4, 1e-3])
        assert rates[3:] == sorted(rates[3:], reverse=True)
        assert rates[-1] < 1e-4

    def test_usual_rates_depend_on_method_and_adapters(self, model_folder: Path, pairs_file: Path) -> None:
        still = {"warmup_ratio": 0.0, "lr_scheduler_type": "constant"}
        for method, (full, low) in ((DPOModule, (5e-7, 1e-5)), (SFTModule, (2e-5, 2e-4)), (RewardModel, (1e-5, 1e-4))):
            for lora, rate in ((None, full), (LoRA(r=2), low)):
                module = method(Backbone(str(model_folder), lora=lora), optimizer=Optimizer(**still))
                assert fit(module, pairs_data(pairs_file), max_steps=1).series("train/lr") == pytest.approx([rate])

    def test_a_run_that_only_time_ends(self, model_folder: Path, pairs_file: Path) -> None:
        """Lightning looks at the clock after each step."""
        constant = Optimizer(learning_rate=1e-3, lr_scheduler_type="constant")
        module = SFTModule(Backbone(str(model_folder)), optimizer=constant)
        log = fit(module, pairs_data(pairs_file), max_epochs=-1, max_time=timedelta(microseconds=1))
        assert log.series("train/lr") == [pytest.approx(1e-3)]

    def test_a_schedule_that_needs_an_end_is_refused_without_one(self) -> None:
        endless = SimpleNamespace(max_steps=-1, max_epochs=-1, callbacks=[], datamodule=None)
        for optimizer in (Optimizer(warmup_steps=2), Optimizer(lr_scheduler_type="constant_with_warmup")):
            with pytest.raises(
                ConfigError, match=r"lr_scheduler_type \w+ needs the number of steps, .*max_epochs is -1"
            ):
                check_length(endless, optimizer)
            check_length(SimpleNamespace(**{**vars(endless), "callbacks": [StopAt(5)]}), optimizer)
        check_length(endless, Optimizer(lr_scheduler_type="constant_with_warmup", warmup_steps=2))

    def test_schedules_without_an_end(self) -> None:
        """By hand: two steps of warm-up, then the peak, or the peak over the square root of steps over those two."""
        for kind, rates in (
            ("constant_with_warmup", [0, 0.5, 1, 1, 1]),
            ("inverse_sqrt", [0, 0.5, 1, 1.5**-0.5, 2**-0.5]),
        ):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
            schedule, found = Optimizer(lr_scheduler_type=kind, warmup_steps=2).schedule(optimizer, 0), []
            for _ in rates:
                found.append(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
            assert found == pytest.approx(rates)

    @pytest.mark.parametrize("settings", [{"learning_rate": 0.0}, {"learning_rate": -1.0}, {"warmup_ratio": 1.5}])
    def test_settings_out_of_range(self, settings: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match=r"optimizer\.(learning_rate|warmup_ratio) must"):
            Optimizer(**settings)


def test_weights_of_examples_scale_their_losses(model_folder: Path) -> None:
    from tests.tiny import random_batch

    batch = random_batch([2, 2])
    module = build(DPOModule, model_folder)
    module.build_model()
    double = batch._replace(weights=torch.tensor([2.0, 1.0]), totals=StepTotals(3.0, 0, 0))
    losses = [
        module.loss(b, StepTotals(1, 0, 0)).item()
        for b in (batch._replace(weights=torch.tensor(w)) for w in ([1.0, 0.0], [0.0, 1.0]))
    ]
    assert module.loss(double, double.totals).item() == pytest.approx((2 * losses[0] + losses[1]) / 3)
