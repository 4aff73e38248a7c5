"""Preference methods inside the module: what they ask of batch, reference and data, and that they learn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from align.errors import ConfigError
from align.models.anchors import NoReference
from align.models.backbone import Backbone, LoRA
from align.models.reference import FrozenCopy
from align.models.reference_cache import Cached
from align.modules.dpo import DPOModule
from align.modules.mismatch import mismatched
from align.modules.optimizer import Optimizer
from align.objectives.pairwise import DPO
from align.objectives.pairwise_absolute import APOZero
from align.objectives.pointwise import BCO, KTO, PMPO
from align.objectives.reference_free import CPL, ORPO, SimPO
from align.objectives.scored import DRO, SPPO, FilteredLikelihood, RewardWeighted
from align.objectives.weighting import WPO
from align.records import CandidateBatch
from align.scoring.reductions import Desensitized, Discounted
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.oracles import statistics as plain
from tests.tiny import WORDS, random_batch

FAST = Optimizer(learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler_type="constant")
ROWS = random_batch([1, 1, 1, 1], vocab=200)
LABELLED = ROWS._replace(scores=torch.tensor([[1.0], [0.0], [1.0], [0.0]]))
POINTWISE = [KTO(0.1), BCO(0.1), PMPO(0.5), RewardWeighted(), FilteredLikelihood(0.5), SPPO(0.1), DRO(0.1)]
PAIRWISE = [SimPO(), ORPO(), CPL(), APOZero()]


def build(folder: Path, objective, lora: LoRA | None = None, **options) -> DPOModule:
    backbone = Backbone(str(folder), dtype="float64", lora=lora, layout=options.pop("layout", "auto"))
    return DPOModule(backbone, objective, optimizer=options.pop("optimizer", FAST), **options)


def built(folder: Path, objective, **options) -> DPOModule:
    module = build(folder, objective, **options)
    module.build_model()
    return module


@pytest.fixture
def scored_file(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"{a} {b}?", "completions": [f"yes {a}", f"no {b} {a}"], "scores": [0.75, 0.25]}
        for a in WORDS[:5] for b in WORDS[5:9]
    ]  # fmt: skip
    path = tmp_path / "scored.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("lora", [None, LoRA(r=4)], ids=["full", "lora"])
@pytest.mark.parametrize("objective", [*POINTWISE, *PAIRWISE], ids=lambda o: type(o).__name__)
def test_learns(objective, lora: LoRA | None, model_folder: Path, scored_file: Path) -> None:
    log = fit(build(model_folder, objective, lora), pairs_data(scored_file, groups=8), max_epochs=2)
    losses = log.series("train/loss")
    assert sum(losses[-2:]) < sum(losses[:2])
    paired = objective.view == "pairs"
    names = ("rewards/chosen", "rewards/rejected") if objective.view in ("pairs", "unpaired") else ("rewards",)
    assert all(log.series(f"train/{name}") for name in names)
    assert bool(log.series("train/rewards/margins")) == paired
    if "mismatched_kl" in objective.needs:
        assert min(log.series("train/kl")) >= 0


@pytest.mark.parametrize(
    "objective", [PMPO(0.5), RewardWeighted(), SPPO(0.1), DRO(1.0)], ids=lambda o: type(o).__name__
)
def test_accumulation_equals_the_big_batch(objective, model_folder: Path, scored_file: Path) -> None:
    big, small = build(model_folder, objective), build(model_folder, objective)
    fit(big, pairs_data(scored_file, groups=40))
    fit(small, pairs_data(scored_file, groups=8), accumulate_grad_batches=5)
    for mine, theirs in zip(small.parameters(), big.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layout", ["padded", "shared", "packed"])
@pytest.mark.parametrize("objective", [KTO(0.1), PMPO(0.5), DRO(1.0)], ids=lambda o: type(o).__name__)
def test_layouts_agree(objective, layout: str, model_folder: Path) -> None:
    losses = []
    for name in ("auto", layout):
        module = built(model_folder, objective, layout=name)
        disturb(module.model)
        losses.append(module.loss(LABELLED, LABELLED.totals).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-7)


class TestKTO:
    def test_pairs_each_prompt_with_the_response_before_it(self) -> None:
        moved, real = mismatched(ROWS, 1000)
        before, after = (torch.split(b.response_ids, list(b.response_lengths)) for b in (ROWS, moved))
        assert all(torch.equal(after[i], before[i - 1]) for i in range(4))
        assert torch.equal(moved.prompt_ids, ROWS.prompt_ids)
        assert real.all()

    def test_same_responses_and_same_prompts_are_no_mismatch(self) -> None:
        ids = torch.split(ROWS.response_ids, list(ROWS.response_lengths))
        twin = ROWS._replace(
            response_ids=torch.cat([ids[0], ids[0], *ids[2:]]),
            response_lengths=(len(ids[0]), len(ids[0]), *ROWS.response_lengths[2:]),
        )
        assert mismatched(twin, 1000)[1].tolist() == [True, False, True, True]
        assert mismatched(ROWS._replace(prompt_of=(0, 0, 2, 3)), 1000)[1].tolist() == [True, False, True, True]

    def test_responses_are_cut_where_they_would_not_fit(self) -> None:
        longest = max(ROWS.prompt_lengths) + 1
        moved, _ = mismatched(ROWS, longest)
        assert max(p + r for p, r in zip(moved.prompt_lengths, moved.response_lengths, strict=True)) <= longest

    def test_anchor_is_the_mean_log_ratio_of_mismatched_pairs(self, model_folder: Path) -> None:
        module = built(model_folder, KTO(0.1))
        disturb(module.model)
        foreign, _ = mismatched(LABELLED, 1000)
        ratios = module.scored(module.model, foreign).logprobs - module.scored(module.reference_model, foreign).logprobs
        kl = module.provider._mismatched_kl(module, LABELLED)
        assert kl.item() == pytest.approx(max(ratios.mean().item(), 0))
        assert not kl.requires_grad

    def test_starts_at_half_its_weights(self, model_folder: Path) -> None:
        module = built(model_folder, KTO(0.1, 1.2, 0.8))
        assert module.loss(LABELLED, LABELLED.totals).item() == pytest.approx(0.5, abs=1e-12)

    def test_one_row_is_refused_at_the_start_and_in_a_batch(self, model_folder: Path, scored_file: Path) -> None:
        one = random_batch([1])._replace(scores=torch.ones(1, 1))
        with pytest.raises(ValueError, match="needs at least 2 rows, got 1"):
            built(model_folder, KTO()).loss(one, one.totals)
        with pytest.raises(ConfigError, match="one of the first epoch holds 1"):
            fit(build(model_folder, KTO()), pairs_data(scored_file, groups=13))  # 40 rows leave one over

    def test_unbalanced_weights_are_warned_about(self, model_folder: Path, scored_file: Path) -> None:
        with pytest.warns(UserWarning, match=r"is 3 \(20 desirable rows, 20 undesirable\), the paper advises"):
            fit(build(model_folder, KTO(0.1, 3.0)), pairs_data(scored_file, groups=8), max_steps=1)


class TestState:
    def test_bco_resumes_with_its_running_mean(self, model_folder: Path, scored_file: Path, tmp_path: Path) -> None:
        whole = build(model_folder, BCO(0.1))
        fit(whole, pairs_data(scored_file, groups=8))
        saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=2, save_top_k=-1, filename="{step}")
        fit(
            build(model_folder, BCO(0.1)),
            pairs_data(scored_file, groups=8),
            callbacks=[saver],
            enable_checkpointing=True,
        )
        resumed = build(model_folder, BCO(0.1))
        fit(resumed, pairs_data(scored_file, groups=8), ckpt_path=str(tmp_path / "ckpt" / "step=2.ckpt"))
        assert torch.equal(resumed.provider.seen, whole.provider.seen)
        assert whole.provider.seen[1] == 40
        for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
            assert torch.equal(mine, theirs)

    def test_running_mean_is_that_of_all_rows_and_stands_still_in_validation(self, model_folder: Path) -> None:
        module = built(model_folder, BCO(0.1))
        ratios = [torch.tensor([1.0, 2.0]), torch.tensor([6.0])]
        assert [module.provider._reward_shift(r).item() for r in ratios] == pytest.approx([1.5, 3.0])
        module.eval()
        assert module.provider._reward_shift(torch.tensor([100.0])).item() == pytest.approx(3.0)

    def test_the_value_head_is_trained_and_saved_and_not_exported(
        self, model_folder: Path, scored_file: Path, tmp_path: Path
    ) -> None:
        module = build(model_folder, DRO(1.0), LoRA(r=2))
        saver = ModelCheckpoint(tmp_path / "ckpt", save_last=True)
        fit(module, pairs_data(scored_file, groups=8), callbacks=[saver], enable_checkpointing=True, max_steps=2)
        saved = torch.load(tmp_path / "ckpt" / "last.ckpt", weights_only=True)["state_dict"]
        assert saved["provider.value_head.weight"].abs().max() > 0
        module.export(tmp_path / "out")
        from safetensors import safe_open

        with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
            assert not any("value" in name for name in file.keys() if "v_proj" not in name)  # noqa: SIM118


def test_pmpo_takes_the_divergence_of_full_logits(model_folder: Path) -> None:
    module = built(model_folder, PMPO(0.5, 2.0), lora=LoRA(r=2))
    disturb(module.model)
    policy = module.scored(module.model, LABELLED).logprobs
    with module.model.disable_adapter():
        base = list(plain.response_logprobs(module.model, LABELLED))
    kl = torch.stack(
        [
            (r.exp() * (r - p)).sum()
            for (p, _), (r, _) in zip(plain.response_logprobs(module.model, LABELLED), base, strict=True)
        ]
    )
    signs = torch.tensor([-0.5, 0.5, -0.5, 0.5])
    assert module.loss(LABELLED, LABELLED.totals).item() == pytest.approx(
        (signs * policy + 2 * kl).mean().item(), rel=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": PMPO(), "reference": Cached()}, "reference Cached is not a model"),
        ({"objective": PMPO(), "reference": NoReference()}, "reference NoReference is not a model"),
        ({"objective": KTO(), "reference": Cached()}, "needs responses under other prompts"),
        ({"objective": DPO(), "reduction": Discounted(), "reference": Cached()}, "needs weighted sums over tokens"),
        ({"objective": KTO(), "nll_weight": 1.0}, "nll_weight and weighting are for pairs, KTO takes single"),
        ({"objective": DPO(), "weighting": WPO(), "reduction": Desensitized()}, "weighting is defined on plain sums"),
    ],
)
def test_settings_that_do_not_go_together(options, message: str, model_folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        built(model_folder, **options)


def test_missing_labels_and_groups_of_two_are_refused(model_folder: Path) -> None:
    module = built(model_folder, BCO())
    with pytest.raises(ValueError, match="needs a label for every response"):
        module.loss(ROWS, ROWS.totals)
    pairs = random_batch([2, 2], vocab=200)._replace(scores=torch.ones(4, 1))
    with pytest.raises(ValueError, match="needs groups of 1 candidate"):
        module.loss(pairs, pairs.totals)


def test_weighting_multiplies_the_losses(model_folder: Path) -> None:
    batch: CandidateBatch = random_batch([2, 2, 2], vocab=200)
    module = built(model_folder, DPO(0.1), weighting=WPO(clamp=False), reference=FrozenCopy())
    excess = [
        (lp.gather(1, y[:, None]).sum() - (lp.exp() ** 2).sum(-1).log().sum()) / len(y)
        for lp, y in plain.response_logprobs(module.model, batch)
    ]
    weights = torch.stack(excess).view(-1, 2).sum(1).exp()
    expected = weights.mean() * torch.tensor(2.0).log()  # policy and reference agree
    assert module.loss(batch, batch.totals).item() == pytest.approx(expected.item(), rel=1e-6)
