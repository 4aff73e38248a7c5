"""States under the adapters of a first stage: right ones pass, a wrong switch and a wrong read are seen."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from align.activations import decoder_parts
from align.checks import frozen_states
from align.checks.checked_rows import GroupsOfBatch
from align.checks.frozen_states import states_under
from align.checks.layout_check import LayoutCheck, LayoutVerdict
from align.errors import ConfigError, ModelError
from align.models.adapted import TRAINED, add_trained, load_bare, usual_lora
from align.models.backbone import Backbone
from align.models.response_states import response_states
from align.modules.preferred_dispreferred import PreferredDispreferredModule
from align.modules.rahf import RAHFDualModule
from align.training.self_check import check_layouts
from tests.architectures.shrunk import VOCAB, Variant, random_model
from tests.modules.aligned import FAMILIES, adapters, dual, single, tiny
from tests.tiny import random_batch, tiny_tokenizer

BATCH = random_batch([2, 2, 1], longest=20)


def stage(tmp_path: Path, family: str = "llama", **options: Any) -> RAHFDualModule:
    base = tiny(tmp_path, family)
    return dual(base, adapters(base, tmp_path / "first", ["good", "bad"]), [1, 3], **options)


def checked(module: Any, names: tuple[str, ...]) -> LayoutVerdict:
    with torch.no_grad():
        scoring = states_under(names, module.layers)
        return LayoutCheck(module.model, scoring, gradients=False, everywhere=False)(BATCH)


@pytest.mark.parametrize("family", FAMILIES)
def test_right_states_pass_up_to_the_last_layer(family: str, tmp_path: Path) -> None:
    module = stage(tmp_path, family)
    assert module.reads_states == [["good"], ["bad"], ["good"]]
    for names in (("good",), ("bad",), ()):
        verdict = checked(module, names)
        assert not verdict.refused
        assert verdict.difference.values < 1e-5
    assert module.model.active_adapters == ["good", TRAINED]  # as it was


@pytest.mark.parametrize(
    ("name", "projections"),
    [
        ("phi3", {"qkv_proj"}),
        ("deepseek_v3", {"q_b_proj", "kv_b_proj"}),
        ("qwen3_next", {"q_proj", "v_proj"}),
        ("modernbert-decoder", {"q_proj", "v_proj"}),  # what transformers calls its decoder is the head
    ],
)
def test_states_of_other_families(name: str, projections: set[str], tmp_path: Path) -> None:
    """Projections that are fused, come out of a latent, or stand in every fourth block only."""
    random_model(Variant(name)).save_pretrained(tmp_path)
    bare = load_bare(Backbone(str(tmp_path)), range(VOCAB))
    assert set(decoder_parts(bare).attention) == projections
    model = add_trained(bare, [TRAINED], usual_lora(bare)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * parameter.requires_grad  # an adapter that does nothing could be passed by
    for names in ((), (TRAINED,)):
        with torch.no_grad():
            check = LayoutCheck(model, states_under(names, [1, 4]), gradients=False, everywhere=False)
            assert check(BATCH).difference.values < 1e-4


def test_families_whose_states_cannot_be_compared_are_told() -> None:
    """Mamba has no projections of the usual adapters; BART's text counts its learned positions by itself."""
    told = r"type mamba have none that are known: set backbone.lora.target_modules, such as all-linear"
    with pytest.raises(ConfigError, match=told):
        usual_lora(random_model(Variant("mamba")))
    bart = random_model(Variant("bart"))
    assert response_states(bart, BATCH, [1]).values.shape[0] == 1
    with pytest.raises(ModelError, match="type bart has learned positions and counts them by itself"):
        response_states(bart, BATCH, [1], begin=[20] * len(BATCH.prompt_lengths))


def test_the_check_of_a_run_names_every_adapter(tmp_path: Path) -> None:
    module, groups = stage(tmp_path), GroupsOfBatch(random_batch([2, 2]))
    told = check_layouts(module, groups, gradients=True)
    for name in ("good", "bad"):
        assert f"hidden states under adapter {name} in packed rows off by" in told
    assert "of the base" not in told
    lorra = check_layouts(single(tmp_path / "base", "none", target_init="sft"), groups, gradients=False)
    assert "hidden states of the base in packed rows off by" in lorra


def test_the_first_stage_is_told_what_the_second_cannot_read(tmp_path: Path) -> None:
    """Gemma 3n gives four streams, in no layout one: said before the first stage, by both sides of the comparison."""
    groups = GroupsOfBatch(random_batch([2, 2]))
    first = PreferredDispreferredModule(Backbone(str(tiny(tmp_path))))
    first.build_model()
    assert "hidden states of the base in packed rows off by" in check_layouts(first, groups, gradients=False)
    tokenizer = tiny_tokenizer()
    sizes = dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), len(tokenizer))
    random_model(Variant("gemma3n_text"), **sizes).save_pretrained(tmp_path / "streams")
    tokenizer.save_pretrained(tmp_path / "streams")
    several = PreferredDispreferredModule(Backbone(str(tmp_path / "streams")))
    several.build_model()
    with pytest.raises(ModelError, match=r"^Gemma3nTextDecoderLayer gives several streams .* take another model$"):
        check_layouts(several, groups, gradients=False)


def never(model: Any, names: Any) -> AbstractContextManager[None]:
    return nullcontext()


def test_an_adapter_that_is_not_switched_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The good one is active beside the trained one, which has no effect yet: only the bad one's states are wrong."""
    module = stage(tmp_path)
    monkeypatch.setattr(frozen_states, "adapters_active", never)
    assert not checked(module, ("good",)).refused
    with pytest.raises(
        ModelError, match="hidden states under adapter bad agree with a plain forward pass in no layout"
    ):
        checked(module, ("bad",))


def test_a_layout_that_reads_other_tokens_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(model: Any, batch: Any, layers: Any, *, layout: str) -> Any:
        found = response_states(model, batch, layers, layout=layout)
        return found._replace(values=found.values.roll(1, dims=1)) if layout == "packed" else found

    module = stage(tmp_path)
    monkeypatch.setattr(frozen_states, "response_states", late)
    verdict = checked(module, ("bad",))
    assert list(verdict.refused) == ["packed"]
    assert verdict.layout == "shared"
