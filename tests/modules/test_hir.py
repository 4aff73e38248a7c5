"""Contrastive instruction tuning on a model: identities, invariance, options, its artefact."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch

from align.errors import ConfigError
from align.models.backbone import Backbone, LoRA
from align.models.fresh_embeddings import cosine_of_rows
from align.models.references import Cached
from align.models.stage import read_note
from align.modules.hir import HIRModule
from align.modules.sft import SFTModule
from align.objectives.instruction import ContrastiveInstruction
from align.records import CandidateBatch, Instructions
from tests.modules.aligned import TEXTS, instructed_batch, instructed_groups, single, tiny

BATCH = instructed_batch()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny(tmp_path)


def built(base: Path, lora: LoRA | None = None, **options) -> HIRModule:
    module = HIRModule(Backbone(str(base), dtype="float64", lora=lora), instructions=TEXTS, **options)
    module.build_model()
    return module


def test_equal_instructions_have_no_contrast(base: Path) -> None:
    """The margin is exactly 0 and the contrast log 2, whatever the smoothing."""
    batch = instructed_batch(same=True)
    for smoothing in (0.0, 0.2):
        objective = ContrastiveInstruction(supervised_weight=0.0, contrast_smoothing=smoothing)
        module = built(base, objective=objective)
        assert module.loss(batch, batch.totals).item() == pytest.approx(math.log(2), abs=1e-12)
        assert module._means["train"].read(lambda s: s)["margin"] == 0


def test_without_contrast_it_is_sft_under_the_fitting_instruction(base: Path) -> None:
    module = built(base, objective=ContrastiveInstruction(contrast_weight=0.0))
    plain = SFTModule(Backbone(str(base), dtype="float64"))
    plain.build_model()
    rows = [BATCH.under(0).only(0), BATCH.under(1).only(1)]
    expected = sum(plain.loss(row, BATCH.totals).item() for row in rows)
    assert module.loss(BATCH, BATCH.totals).item() == pytest.approx(expected, rel=1e-9)
    smoothed = built(base, objective=ContrastiveInstruction(contrast_weight=0.0, likelihood_smoothing=1e-12))
    assert smoothed.loss(BATCH, BATCH.totals).item() == pytest.approx(expected, rel=1e-9)


def test_weights_of_rows_count_in_what_is_logged(base: Path) -> None:
    """Without contrast the loss is the likelihood of a token, weighted; its mean was logged over all tokens alike."""
    module = built(base, objective=ContrastiveInstruction(contrast_weight=0.0))
    weights = torch.arange(1.0, len(BATCH.group_sizes) + 1)
    batch = BATCH._replace(weights=weights)
    tokens = (batch.candidate_weights() * torch.tensor(batch.response_lengths)).sum().item()
    loss = module.loss(batch, batch.totals._replace(weight=weights.sum().item(), response_tokens=tokens)).item()
    found = module._means["train"].read(lambda s: s)["nll"].item()
    assert found == pytest.approx(loss, rel=1e-6)


def test_layouts_and_tiles_agree(base: Path) -> None:
    objective = ContrastiveInstruction(likelihood_smoothing=0.1, entropy_weight=0.1)
    found = []
    for layout, size in (("padded", 2**30), ("packed", 2**30), ("packed", 40_000)):
        module = built(base, objective=objective)
        module.backbone = Backbone(str(base), dtype="float64", layout=layout, logit_bytes=size)
        loss = module.loss(BATCH, BATCH.totals)
        loss.backward()
        found.append((loss.item(), module.model.lm_head.weight.grad.clone()))
    for value, gradient in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-5, atol=1e-8)


def test_divergence_is_zero_at_the_start_and_grows(base: Path) -> None:
    module = built(base, LoRA(r=2), objective=ContrastiveInstruction(kl_weight=1.0))
    module.loss(BATCH, BATCH.totals)
    assert module._means["train"].read(lambda s: s)["kl"] == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    module.loss(BATCH, BATCH.totals).backward()
    assert module._means["train"].read(lambda s: s)["kl"] > 0


def test_divergence_of_all_weights_from_a_frozen_copy(base: Path) -> None:
    """Against whole forward passes of transformers: KL(start || policy), the mean of both instructions."""
    module = built(base, objective=ContrastiveInstruction(kl_weight=1.0, supervised_weight=0.0, contrast_weight=0.0))
    start = copy.deepcopy(module.model).eval()
    assert module.loss(BATCH, BATCH.totals).item() == pytest.approx(0, abs=1e-9)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.model.parameters():  # the head moves too
            parameter.add_(0.05 * torch.randn_like(parameter))
    sums = []
    for group in instructed_groups():
        for prompt, response in itertools.product(group.instructed_ids, group.response_ids):
            ids, window = torch.tensor([[*prompt, *response]]), slice(len(prompt) - 1, -1)
            theirs, own = (m(ids).logits[0, window].log_softmax(-1) for m in (start, module.model))
            sums.append((theirs.exp() * (theirs - own)).sum())
    loss = module.loss(BATCH, BATCH.totals)
    assert loss.item() == pytest.approx(sum(sums).item() / 2 / BATCH.totals.response_tokens, rel=1e-6)
    loss.backward()
    assert all(p.grad is None for p in module.reference_model.parameters())
    assert module.model.lm_head.weight.grad.abs().sum() > 0


def test_values_computed_before_training_are_no_reference_here(base: Path) -> None:
    with pytest.raises(ConfigError, match="is not a model that can score"):
        built(base, objective=ContrastiveInstruction(kl_weight=1.0), reference=Cached())


def test_entropy_of_a_uniform_model(base: Path) -> None:
    module = built(base, objective=ContrastiveInstruction(entropy_weight=1.0))
    with torch.no_grad():
        module.model.lm_head.weight.zero_()
    module.loss(BATCH, BATCH.totals)
    assert module._means["train"].read(lambda s: s)["entropy"] == pytest.approx(math.log(261))


def test_groups_must_be_pairs(base: Path) -> None:
    lonely: CandidateBatch = instructed_batch((1, 1))
    with pytest.raises(ConfigError, match="instructions need pairs"):
        built(base).loss(lonely, lonely.totals)


def test_tokens_that_read_the_same_are_told_and_mended(base: Path) -> None:
    texts = Instructions("a", "b")
    module = HIRModule(Backbone(str(base)), instructions=texts)
    module.build_model()
    table = module.model.get_input_embeddings().weight
    ids = [module.tokenizer(t, add_special_tokens=False).input_ids[0] for t in ("a", "b")]
    with torch.no_grad():
        table[ids[1]] = table[ids[0]]
    with pytest.warns(UserWarning, match="have cosine 1.00"):
        cosine_of_rows(module.model, module.tokenizer, texts)
    mended = HIRModule(Backbone(str(base)), instructions=texts, init_tokens=["a", "b"])
    mended.build_model()
    assert abs(cosine_of_rows(mended.model, mended.tokenizer, texts) or 1) < 0.9
    assert cosine_of_rows(mended.model, mended.tokenizer, Instructions()) is None
    with pytest.raises(ConfigError, match="expected one"):
        HIRModule(Backbone(str(base)), init_tokens=["several"]).build_model()


def test_its_folder_is_a_first_stage(base: Path, tmp_path: Path) -> None:
    """As an adapter beside the base, or as the whole model."""
    adapter = HIRModule(Backbone(str(base), lora=LoRA(r=2)), instructions=TEXTS)
    adapter.build_model()
    adapter.export(tmp_path / "adapter")
    assert single(base, tmp_path / "adapter").collector == ["stage1"]
    whole = HIRModule(Backbone(str(base)), instructions=TEXTS)
    whole.build_model()
    whole.export(tmp_path / "whole")
    assert read_note(str(tmp_path / "whole"))["method"] == "HIRModule"
    assert single(tmp_path / "whole", None).collector == []
    with pytest.raises(ConfigError, match=r"instructions.negative was 'be very bad'"):
        single(tmp_path / "whole", None, instructions=Instructions("be good", "be awful"))
