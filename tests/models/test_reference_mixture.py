"""No reference, and several: mixtures of anchors, what they keep, and the losses they are made for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from align.errors import ConfigError
from align.models.backbone import Backbone, LoRA
from align.models.references import Cached, FrozenCopy, MixtureTerm, NamedAdapter, NoReference, ReferenceMixture
from align.models.tokenizer import load_tokenizer
from align.modules.dpo import DPOModule
from align.objectives.pairwise import IPO
from align.scoring import score_responses
from align.training.optimizer import Optimizer
from tests.models.test_reference import BATCH, disturb, load
from tests.modules.fitting import fit, pairs_data
from tests.tiny import save_tiny

FAST = Optimizer(learning_rate=1e-2)


def scored(kind, policy, backbone):
    built = kind.build(policy, backbone, load_tokenizer(backbone), score_responses)
    built.prepare(policy, [BATCH], moved=False)
    return built.score(policy, BATCH)


def module(folder: Path, reference, objective=IPO(0.1, "sequence")) -> DPOModule:
    return DPOModule(Backbone(str(folder), dtype="float64"), objective, reference=reference, optimizer=FAST)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "other", num_hidden_layers=1)


def test_a_mixture_adds_log_probabilities_by_weight(model_folder: Path, other: Path, tmp_path: Path) -> None:
    policy, backbone = load(model_folder, lora=LoRA(r=2))
    disturb(policy)
    policy.save_pretrained(str(tmp_path / "adapter"))
    policy.load_adapter(str(tmp_path / "adapter"), adapter_name="lag", is_trainable=False)
    disturb(policy)
    anchors = [MixtureTerm(None, 0.5), MixtureTerm(FrozenCopy(str(other)), 0.3), MixtureTerm(NamedAdapter("lag"), 0.2)]
    parts = [
        scored(kind, policy, backbone).logprobs
        for kind in (FrozenCopy(str(model_folder)), *[a.reference for a in anchors[1:]])
    ]
    mixed = scored(ReferenceMixture(anchors), policy, backbone)
    torch.testing.assert_close(mixed.logprobs, 0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])
    assert not torch.equal(parts[0], parts[2])
    assert not mixed.logprobs.requires_grad


def test_one_anchor_with_weight_one_is_that_anchor(model_folder: Path, other: Path) -> None:
    policy, backbone = load(model_folder)
    alone = scored(FrozenCopy(str(other)), policy, backbone).logprobs
    mixture = ReferenceMixture([MixtureTerm(FrozenCopy(str(other)), 1.0), MixtureTerm(None, 0.0)])
    assert torch.equal(scored(mixture, policy, backbone).logprobs, alone)


def test_weights_must_add_up_to_one() -> None:
    with pytest.raises(ConfigError, match=r"reference.anchors must add up to 1, got 0.8"):
        ReferenceMixture([MixtureTerm(None, 0.5), MixtureTerm(None, 0.3)])


def test_inpo_is_the_square_loss_of_its_equation(model_folder: Path, other: Path) -> None:
    # (dl - (tau/eta) dl_ref - (1 - tau/eta) dl_t - 1 / (2 eta))^2 with tau/eta = 0.25 and eta = 0.2
    anchors = [MixtureTerm(FrozenCopy(str(other)), 0.25), MixtureTerm(None, 0.75)]
    inpo = module(model_folder, ReferenceMixture(anchors), IPO(0.2, "sequence"))
    inpo.build_model()
    disturb(inpo.model)
    models = (inpo.model, load(other, dtype="float64")[0], load(model_folder, dtype="float64")[0])
    with torch.no_grad():
        own, ref, last = (
            score_responses(m, BATCH).logprobs.view(-1, 2) @ torch.tensor([1.0, -1.0]).double() for m in models
        )
    expected = (own - 0.25 * ref - 0.75 * last - 1 / 0.4) ** 2
    assert inpo.loss(BATCH, BATCH.totals).item() == pytest.approx(expected.mean().item(), rel=1e-9)


def test_reductions_of_mnpo(model_folder: Path, other: Path, pairs_file: Path) -> None:
    """rho = 1 is IPO on the reference; all weight on one lag is INPO."""
    start, lag = FrozenCopy(str(other)), FrozenCopy(str(model_folder))
    runs = [
        (start, ReferenceMixture([MixtureTerm(start, 1.0), MixtureTerm(lag, 0.0), MixtureTerm(None, 0.0)])),
        (
            ReferenceMixture([MixtureTerm(start, 0.3), MixtureTerm(None, 0.7)]),
            ReferenceMixture([MixtureTerm(start, 0.3), MixtureTerm(lag, 0.7), MixtureTerm(None, 0.0)]),
        ),
    ]
    for first, second in runs:
        losses = [
            fit(module(model_folder, r), pairs_data(pairs_file), max_steps=2).series("train/loss")
            for r in (first, second)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_checkpoints_hold_no_anchor(model_folder: Path, other: Path, pairs_file: Path, tmp_path: Path) -> None:
    own = module(model_folder, ReferenceMixture([MixtureTerm(None, 0.5), MixtureTerm(FrozenCopy(str(other)), 0.5)]))
    saver = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
    fit(own, pairs_data(pairs_file), callbacks=[saver], enable_checkpointing=True, max_steps=2)
    content = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert content["state_dict"]
    assert all(name.startswith("model.") for name in content["state_dict"])


def test_a_cached_anchor_serves_in_a_mixture(model_folder: Path, other: Path) -> None:
    policy, backbone = load(model_folder)
    mixture = ReferenceMixture([MixtureTerm(Cached(), 0.5), MixtureTerm(FrozenCopy(str(other)), 0.5)])
    plain = ReferenceMixture([MixtureTerm(None, 0.5), MixtureTerm(FrozenCopy(str(other)), 0.5)])
    torch.testing.assert_close(scored(mixture, policy, backbone).logprobs, scored(plain, policy, backbone).logprobs)
    assert mixture.precomputed
    assert not plain.precomputed


def test_no_reference_is_zero_and_has_no_model(model_folder: Path) -> None:
    policy, backbone = load(model_folder)
    assert scored(NoReference(), policy, backbone).logprobs.tolist() == [0.0] * 6
    for kind in (NoReference(), Cached(), ReferenceMixture([MixtureTerm(None, 1.0)])):
        with pytest.raises(ConfigError, match=f"reference {type(kind).__name__} is not a model"):
            kind.run(policy, lambda model: model)
