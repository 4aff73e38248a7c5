"""Reference policies: all kinds give the start of the run, bit for bit, and leave the policy as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from align.errors import ConfigError, ResumeError
from align.models.adapter_folder import REFERENCE_ADAPTER
from align.models.adapters import adapter_active, adapters_off, evaluating, has_adapters
from align.models.backbone import Backbone, LoRA
from align.models.loading import load_policy
from align.models.references import BaseWithoutAdapters, FrozenCopy, NamedAdapter, Reference, default_reference
from align.models.references.reference_cache import Cached, candidate_keys, weights_hash
from align.models.tokenizer import load_tokenizer
from align.scoring import score_responses
from tests.tiny import random_batch, save_tiny

BATCH = random_batch([2, 2, 2])


def load(folder: Path, **options):
    backbone = Backbone(str(folder), **options)
    return load_policy(backbone, load_tokenizer(backbone)), backbone


def disturb(model: torch.nn.Module) -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


def state(model) -> tuple:
    active = list(model.active_adapters) if has_adapters(model) else []
    return active, [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]


@pytest.fixture
def adapter_folder(model_folder: Path, tmp_path: Path) -> Path:
    model, backbone = load(model_folder, lora=LoRA(r=2))
    disturb(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    load_tokenizer(backbone).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("kind", ["adapter_off", "named_adapter", "frozen_copy", "frozen_copy_lora"])
def test_scores_are_those_of_the_start_also_after_training(kind: str, model_folder: Path, adapter_folder: Path) -> None:
    reference: Reference
    if kind == "adapter_off":
        (policy, backbone), reference = load(model_folder, lora=LoRA(r=2, lora_dropout=0.5)), BaseWithoutAdapters()
    elif kind == "named_adapter":
        (policy, backbone), reference = load(adapter_folder), NamedAdapter()
    else:
        lora = LoRA(r=2) if kind.endswith("lora") else None
        (policy, backbone), reference = load(model_folder, lora=lora), FrozenCopy()
    reference = reference.build(policy, backbone, load_tokenizer(backbone), score_responses)
    with evaluating(policy), torch.no_grad():
        start = score_responses(policy, BATCH).logprobs
    disturb(policy)
    before = state(policy)
    scores = reference.score(policy, BATCH)
    assert torch.equal(scores.logprobs, start)
    assert not scores.logprobs.requires_grad
    assert state(policy) == before
    with torch.no_grad():
        assert not torch.equal(score_responses(policy, BATCH).logprobs, start)


def test_contexts_put_everything_back_after_an_exception(adapter_folder: Path) -> None:
    policy, _ = load(adapter_folder)
    before = state(policy)

    def failing() -> None:
        raise RuntimeError

    for context in (evaluating(policy), adapters_off(policy), adapter_active(policy, REFERENCE_ADAPTER)):
        with pytest.raises(RuntimeError), context:
            failing()
        assert state(policy) == before


def test_frozen_copy_of_another_folder(model_folder: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", num_hidden_layers=1)
    policy, backbone = load(model_folder)
    reference = FrozenCopy(str(other)).build(policy, backbone, load_tokenizer(backbone), score_responses)
    expected, _ = load(other)
    with torch.no_grad():
        torch.testing.assert_close(reference.score(policy, BATCH).logprobs, score_responses(expected, BATCH).logprobs)


def test_kinds_that_do_not_fit_say_what_to_use(model_folder: Path, adapter_folder: Path) -> None:
    full, backbone = load(model_folder)
    with pytest.raises(ConfigError, match=r"BaseWithoutAdapters needs backbone\.lora"):
        BaseWithoutAdapters().build(full, backbone, None, score_responses)
    with pytest.raises(ConfigError, match="reference adapter 'reference' does not exist, the model has no adapters"):
        NamedAdapter().build(full, backbone, None, score_responses)
    trained, backbone = load(adapter_folder)
    with pytest.raises(ConfigError, match="use NamedAdapter"):
        BaseWithoutAdapters().build(trained, backbone, None, score_responses)


def test_defaults(model_folder: Path, adapter_folder: Path) -> None:
    assert default_reference(load(model_folder)[0]) == FrozenCopy()
    assert default_reference(load(model_folder, lora=LoRA(r=2))[0]) == BaseWithoutAdapters()
    assert default_reference(load(adapter_folder)[0]) == NamedAdapter()


class TestCached:
    def filled(self, folder: Path, reference: Cached = Cached(), moved: bool = False, batch=BATCH, **options):
        policy, backbone = load(folder, **options)
        built = reference.build(policy, backbone, None, score_responses)
        built.prepare(policy, [batch], moved=moved)
        return policy, built

    @pytest.mark.parametrize("options", [{}, {"lora": LoRA(r=2)}])
    def test_values_are_those_of_the_start(self, model_folder: Path, options: dict) -> None:
        policy, reference = self.filled(model_folder, **options)
        with torch.no_grad():
            start = score_responses(policy, BATCH).logprobs
        disturb(policy)
        cached = reference.score(policy, BATCH)
        torch.testing.assert_close(cached.logprobs, start, rtol=0, atol=0)
        assert cached.lengths.tolist() == list(BATCH.response_lengths)

    def test_second_run_scores_nothing(self, model_folder: Path) -> None:
        self.filled(model_folder)
        policy, backbone = load(model_folder)
        again = Cached().build(policy, backbone, None, lambda *_: pytest.fail("scored again"))
        again.prepare(policy, [BATCH], moved=True)
        assert again.score(policy, BATCH).logprobs.shape == (6,)

    def test_only_new_rows_are_scored(self, model_folder: Path) -> None:
        self.filled(model_folder)
        _, reference = self.filled(model_folder, batch=random_batch([2], seed=9))
        assert len(reference.model.values) == 8

    def test_adapters_of_another_seed_share_the_cache(self, model_folder: Path) -> None:
        hashes = []
        for seed in range(2):
            torch.manual_seed(seed)
            hashes.append(weights_hash(load(model_folder, lora=LoRA(r=2))[0]))
        assert hashes[0] == hashes[1]

    def test_other_weights_are_refused_for_a_named_file_and_kept_apart_otherwise(
        self, model_folder: Path, tmp_path: Path
    ) -> None:
        named = Cached(str(tmp_path / "cache.safetensors"))
        self.filled(model_folder, named)
        torch.manual_seed(3)
        other = save_tiny(tmp_path / "other", initializer_range=0.5)
        with pytest.raises(
            ResumeError, match=r"weights is .* there and .* in this run: remove the file or name another"
        ):
            self.filled(other, named)
        self.filled(model_folder)
        self.filled(other)
        assert len(list(Path("runs/cache/reference").iterdir())) == 2

    def test_other_dtype_and_other_configuration_are_other_caches(self, model_folder: Path) -> None:
        self.filled(model_folder)
        self.filled(model_folder, dtype="bfloat16")
        assert len(list(Path("runs/cache/reference").iterdir())) == 2

    def test_a_response_that_was_never_scored_is_refused(self, model_folder: Path) -> None:
        policy, reference = self.filled(model_folder)
        with pytest.raises(ResumeError, match="holds no value for a response of 'g0'"):
            reference.score(policy, random_batch([2], seed=4))

    def test_a_policy_that_moved_cannot_fill(self, model_folder: Path) -> None:
        with pytest.raises(ResumeError, match="is missing or incomplete and the policy has moved"):
            self.filled(model_folder, moved=True)
        self.filled(model_folder, moved=True, lora=LoRA(r=2))  # its base is still the reference

    def test_keys_depend_on_every_token_and_on_the_boundary(self) -> None:
        keys = candidate_keys(BATCH)
        assert len(set(keys)) == 6
        moved = BATCH._replace(
            prompt_lengths=(BATCH.prompt_lengths[0] - 1, BATCH.prompt_lengths[1] + 1, *BATCH.prompt_lengths[2:])
        )
        assert candidate_keys(moved)[0] != keys[0]
