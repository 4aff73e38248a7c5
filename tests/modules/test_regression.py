"""The reward model of several attributes: exact steps, missing labels, the language loss, exports and checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForSequenceClassification

from align.data.batching import Batching
from align.data.splits import Splits
from align.errors import ConfigError, ModelError, ResumeError
from align.models.backbone import Backbone, LoRA
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.objectives.regression import Regression
from align.objectives.strength import SoftLabel
from align.records import CandidateBatch
from align.training.label_correlation import LabelCorrelation
from align.training.optimizer import Optimizer
from tests.data.test_labels import BOTH
from tests.formulas.rewards import masked_squares
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.modules.rated import rated_data
from tests.modules.test_training import trained
from tests.tiny import save_tiny

FAST = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")


def model_of(
    folder: Path, objective: Regression = Regression(), lora: LoRA | None = None, **options: Any
) -> RewardModel:
    backbone = Backbone(str(folder), dtype="float64", lora=lora, layout=options.pop("layout", "auto"))
    return RewardModel(backbone, objective, optimizer=FAST, **options)


def ready(
    folder: Path, tmp_path: Path, objective: Regression = Regression(), **options: Any
) -> tuple[RewardModel, CandidateBatch]:
    """A built model with a head that says something, and one batch of all rows."""
    module, data = model_of(folder, objective, **options), rated_data(tmp_path, groups=100)
    data.connect(module)
    module.build_model()
    disturb(module.model)
    ((batch,),) = data.train_dataloader()
    return module, batch


class TestExactness:
    @pytest.mark.parametrize("objective", [Regression(), Regression(per_example=True, lm_on="response")])
    def test_accumulation_equals_the_big_batch(self, objective: Regression, model_folder: Path, tmp_path: Path) -> None:
        """Batches with different numbers of labels and tokens: a mean of their means would differ."""
        big, small = model_of(model_folder, objective), model_of(model_folder, objective)
        whole = fit(big, rated_data(tmp_path, groups=40))
        parts = fit(small, rated_data(tmp_path, batching=Batching(groups=40, tokens=500)))
        torch.testing.assert_close(trained(small), trained(big), rtol=1e-9, atol=1e-12)
        for name in ("loss", "loss/reg", "loss/lm", "mse/hs-verbosity"):
            assert parts.series(f"train/{name}") == pytest.approx(whole.series(f"train/{name}"), rel=1e-6)
        step = whole.rows[0]
        assert step["train/loss"] == pytest.approx(step["train/loss/reg"] + step["train/loss/lm"], rel=1e-6)

    @pytest.mark.parametrize("layout", ["padded", "shared", "packed"])
    def test_layouts_agree(self, layout: str, model_folder: Path, tmp_path: Path) -> None:
        one, batch = ready(model_folder, tmp_path)
        other = model_of(model_folder, layout=layout)
        other.labels = one.labels
        other.build_model()
        other.load_state_dict(one.state_dict())
        assert other.loss(batch, batch.totals).item() == pytest.approx(one.loss(batch, batch.totals).item(), rel=1e-9)

    def test_validation_does_not_depend_on_the_batches(self, model_folder: Path, tmp_path: Path) -> None:
        rows = []
        for tokens in (300, 10_000):
            module = RewardModel(Backbone(str(model_folder)), Regression(), optimizer=Optimizer(learning_rate=1e-3))
            fit(module, data := rated_data(tmp_path, 8, 20, splits=Splits(0.5)), limit_val_batches=0)
            data.batching = Batching(tokens=tokens)
            rows.append(validated(module, data))
        assert rows[0] == pytest.approx(rows[1], rel=1e-5)
        assert {f"val/{n}/{a}" for n in ("mse", "mae", "pearson", "n_obs") for a in BOTH} <= set(rows[0])
        batch = next(iter(data.val_dataloader()))  # type: ignore[call-overload]
        with torch.no_grad(), module.evaluating():
            points, targets = module.points(batch), module.rescaling.points(batch.columns(BOTH))  # type: ignore[union-attr]
        known = ~targets[:, 4].isnan()
        assert rows[1]["val/n_obs/hs-verbosity"] == known.sum()
        expected = np.corrcoef(points[known, 4], targets[known, 4])[0, 1]
        assert rows[1]["val/pearson/hs-verbosity"] == pytest.approx(expected, rel=1e-4)

    def test_padding_counts_for_nothing(self, model_folder: Path, tmp_path: Path) -> None:
        """A process that is short of a batch in an evaluation computes one of another's."""
        module, batch = ready(model_folder, tmp_path)
        assert module._recorded_loss("val", batch.as_padding()).item() == 0
        assert module.agreement.read() == {}
        assert module._means["val"].read(lambda sums: sums) == {}
        assert module.predict_step(batch.as_padding(), 0) == []
        assert len(module.predict_step(batch, 0)) == batch.num_candidates


def validated(module: RewardModel, data: Any) -> dict[str, float]:
    import lightning as L

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (found,) = trainer.validate(module, data, verbose=False)
    return dict(found)


def test_loss_equals_the_formula_and_sft(model_folder: Path, tmp_path: Path) -> None:
    module, batch = ready(model_folder, tmp_path, Regression(lm_weight=0.5))
    assert module.rescaling is not None
    points, targets = module.points(batch), module.rescaling.points(batch.scores.double())
    listed = [[None if math.isnan(t) else t for t in row] for row in targets.tolist()]
    reg = masked_squares(points.tolist(), listed, 20)
    sft = SFTModule(Backbone(str(model_folder), dtype="float64"), loss_on="all")
    sft.build_model()
    decoder = {k: v for k, v in module.model.state_dict().items() if k.startswith("model.")}
    sft.model.load_state_dict({**sft.model.state_dict(), **decoder, "lm_head.weight": language_weight(module)})
    lm = sft.loss(batch, batch.totals).item()
    assert module.loss(batch, batch.totals).item() == pytest.approx(reg + 0.5 * lm, rel=1e-6)


def language_weight(module: RewardModel) -> torch.Tensor:
    return module.model.language_head.weight  # type: ignore[union-attr,return-value]


class TestHead:
    def test_starts_at_the_mean_label(self, model_folder: Path, tmp_path: Path) -> None:
        module, data = model_of(model_folder), rated_data(tmp_path, groups=100)
        data.connect(module)
        module.build_model()
        ((batch,),) = data.train_dataloader()
        assert module.rescaling is not None
        means = module.rescaling.points(torch.tensor([data.labels.means], dtype=torch.float64))
        torch.testing.assert_close(module.points(batch), means.expand(batch.num_candidates, -1))

    def test_missing_labels_leave_their_rows_of_the_head_alone(self, model_folder: Path, tmp_path: Path) -> None:
        module, batch = ready(model_folder, tmp_path, Regression(lm_weight=0))
        hidden = batch._replace(scores=batch.scores.clone().index_fill_(1, torch.arange(5, 10), torch.nan))
        module.loss(hidden, batch.totals).backward()
        gradient = module.model.score.weight.grad  # type: ignore[union-attr]
        assert (gradient[5:] == 0).all()  # type: ignore[index]
        assert all((row != 0).any() for row in gradient[:5])  # type: ignore[index,union-attr]

    def test_no_labels_in_a_batch_is_zero_loss(self, model_folder: Path, tmp_path: Path) -> None:
        module, batch = ready(model_folder, tmp_path, Regression(lm_weight=0))
        empty = batch._replace(scores=torch.full_like(batch.scores, torch.nan))
        loss = module.loss(empty, empty.totals)
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is None or not p.grad.isnan().any() for p in module.parameters())

    def test_is_computed_in_float32_below(self, model_folder: Path, tmp_path: Path) -> None:
        module, data = RewardModel(Backbone(str(model_folder), dtype="bfloat16"), Regression()), rated_data(tmp_path)
        data.connect(module)
        module.build_model()
        (batch,) = next(iter(data.train_dataloader()))
        with torch.autocast("cpu", torch.bfloat16):
            assert module.points(batch).dtype == torch.float32


class TestArtefacts:
    @pytest.mark.parametrize("lora", [None, LoRA(r=2)])
    @pytest.mark.parametrize("tied", [False, True])
    def test_logits_in_transformers_give_our_points(self, tmp_path: Path, lora: LoRA | None, tied: bool) -> None:
        folder = save_tiny(tmp_path / "base", tie_word_embeddings=tied)
        module, batch = ready(folder, tmp_path, lora=lora)
        module.export(tmp_path / "rm", merge=lora is not None)
        opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").eval()
        assert tuple(opened.config.id2label.values()) == BOTH
        assert not any("language_head" in name or "lm_head" in name for name in opened.state_dict())
        assert hasattr(module.model.get_base_model() if lora else module.model, "language_head")
        meaning = json.loads((tmp_path / "rm" / "reward.json").read_text())
        rows = rows_of(batch)
        with torch.no_grad(), module.evaluating():
            ours = module.points(batch)
            logits = torch.cat([opened(input_ids=row[None]).logits for row in rows])
        theirs = torch.tensor(meaning["offsets"]) + meaning["unit"] * logits
        torch.testing.assert_close(theirs.double(), ours, rtol=1e-5, atol=1e-5)

    def test_a_folder_can_be_scored_with_and_trained_on(self, model_folder: Path, tmp_path: Path) -> None:
        first, batch = ready(model_folder, tmp_path, Regression(lm_weight=0), lora=LoRA(r=2))
        first.export(tmp_path / "adapter")
        first.export(tmp_path / "whole", merge=True)
        for folder in (tmp_path / "adapter", tmp_path / "whole"):
            second = model_of(folder, Regression(lm_weight=0), direction={"hs-verbosity": -1.0}, clamp=True)
            second.labels = first.labels._replace(means=(0.0,) * 10)  # the folder's own rescaling counts
            second.build_model()
            torch.testing.assert_close(second.points(batch), first.points(batch), rtol=1e-5, atol=1e-5)
            shown = second.predictions(batch)
            torch.testing.assert_close(shown["combined"], -second.points(batch)[:, 4])
            assert all(0 <= v <= 100 for name in BOTH for v in shown[name].tolist())

    def test_wrong_outputs_are_named(self, model_folder: Path, tmp_path: Path) -> None:
        first, _ = ready(model_folder, tmp_path)
        first.export(tmp_path / "rm")
        other = model_of(tmp_path / "rm")
        other.labels = first.labels._replace(attributes=("humour", *BOTH[1:]))
        with pytest.raises(ModelError, match=r"rm: a reward model with 10 outputs \(hs-help.*expected humour too"):
            other.build_model()
        with pytest.raises(
            ModelError, match=r"a reward model with 10 outputs, expected 1 \(found hs-help.*; expected reward"
        ):
            RewardModel(Backbone(str(tmp_path / "rm"))).build_model()
        own = model_of(tmp_path / "rm")
        with pytest.raises(ModelError, match=r"a reward model without a vocabulary head.*set objective.lm_weight to 0"):
            own.build_model()
        (tmp_path / "rm" / "reward.json").write_text('{"attributes": ["a"]}')
        with pytest.raises(ModelError, match=r"reward\.json: no rescaling"):
            model_of(tmp_path / "rm").build_model()

    @pytest.mark.parametrize("lora", [None, LoRA(r=2)])
    def test_checkpoints_resume_and_restore(self, lora: LoRA | None, model_folder: Path, tmp_path: Path) -> None:
        saver = ModelCheckpoint(
            tmp_path / "ckpt", every_n_train_steps=5, save_top_k=-1, filename="{step}", save_last=True
        )
        whole = model_of(model_folder, lora=lora)
        fit(whole, rated_data(tmp_path), callbacks=[saver], enable_checkpointing=True)
        resumed = model_of(model_folder, lora=lora)
        fit(resumed, rated_data(tmp_path), ckpt_path=str(tmp_path / "ckpt" / "step=5.ckpt"))
        assert torch.equal(trained(resumed), trained(whole))
        restored = model_of(model_folder, lora=lora)
        content = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
        assert set(content["state_dict"]) == {n for n, p in whole.named_parameters() if p.requires_grad}
        restored.restore(content)  # without any data
        assert restored.rescaling == whole.rescaling
        assert torch.equal(trained(restored), trained(whole))
        few = rated_data(tmp_path, attributes=["hs-verbosity"])
        with pytest.raises(ResumeError, match=r"the checkpoint has outputs hs-helpfulness, .*, this run hs-verbosity"):
            fit(model_of(model_folder, lora=lora), few, ckpt_path=str(tmp_path / "ckpt" / "last.ckpt"), max_epochs=2)


def rows_of(batch: CandidateBatch) -> list[torch.Tensor]:
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    return [torch.cat([prompts[p], r]) for p, r in zip(batch.prompt_of, responses, strict=True)]


def test_strengths_are_the_mean_of_several_reward_models(model_folder: Path, pairs_file: Path) -> None:
    module = RewardModel(Backbone(str(model_folder), dtype="float64"), SoftLabel(), attribute=["a", "b"])
    module.build_model()
    data = pairs_data(pairs_file, groups=3)
    data.connect(module)
    (batch,) = next(iter(data.train_dataloader()))
    scores = torch.tensor([[1.0, 3.0, 9.0], [0.0, 5.0, 9.0]]).repeat(3, 1)
    labelled = batch._replace(scores=scores, attributes=("a", "b", "other"))
    d = module.rewards(batch).view(-1, 2).diff(dim=1)[:, 0].neg()
    p = torch.sigmoid(torch.tensor(((1 - 0) + (3 - 5)) / 2))
    log = torch.nn.functional.logsigmoid
    expected = (-p * log(d) - (1 - p) * log(-d)).mean()
    assert module.loss(labelled, batch.totals).item() == pytest.approx(expected.item(), rel=1e-6)
    module.attribute = None
    with pytest.raises(ConfigError, match="the data has 3 labels, one has to be named"):
        module.loss(labelled, batch.totals)


def test_agreement_leaves_out_what_it_cannot_say() -> None:
    """Of `b` one label is known, of `c` none, predictions of `d` are the same up to rounding; weights are numpy's."""
    agreement, nan, third = LabelCorrelation(("a", "b", "c", "d")), torch.nan, 100 / 3
    points = torch.tensor([[1.0, 1, 1, third], [2, 2, 2, third], [4, 1, 1, third], [9, 1, 1, third]])
    targets = torch.tensor([[3.0, nan, nan, 5], [1, 5, nan, 6], [2, nan, nan, 7], [nan, nan, nan, 1]])
    weights = torch.tensor([0.5, 2.0, 1.0, 1.0])
    for part in (slice(0, 1), slice(1, 4)):
        agreement.update(points[part], targets[part], weights[part])
    found = {k: v.item() for k, v in agreement.read().items()}
    cov = np.cov([1, 2, 4], [3, 1, 2], aweights=[0.5, 2, 1])
    assert found.pop("pearson/a") == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))
    assert found == {"n_obs/a": 3, "n_obs/b": 1, "n_obs/d": 4}
    assert agreement.read() == {}
