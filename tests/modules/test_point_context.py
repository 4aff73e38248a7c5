"""KTO's mismatched pairs, and what pointwise methods keep between steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from align.errors import ConfigError
from align.models.backbone import LoRA
from align.objectives.pointwise import BCO, KTO
from align.objectives.scored import DRO
from align.training.mismatched_prompts import mismatched
from tests.models.test_reference import disturb
from tests.modules.fitting import fit, pairs_data
from tests.modules.preference_runs import LABELLED, ROWS, build, built
from tests.tiny import random_batch


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
