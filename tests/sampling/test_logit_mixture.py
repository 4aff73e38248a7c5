"""Samples of policy and reference together: against plain forward passes, at both ends of the share, as rounds draw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from align.callbacks.resampling import IterativeResampling
from align.errors import ConfigError
from align.models.backbone import Backbone, LoRA
from align.models.packed_attention import use_packed_attention
from align.models.references import BaseWithoutAdapters, Cached, FrozenCopy, MovingReference, Reference
from align.modules.dpo import DPOModule
from align.modules.group_policy import GroupPolicyModule
from align.modules.sft import SFTModule
from align.objectives.pairwise import DPO
from align.rewards.scorers import Direction, GoldRewards
from align.rounds.every_sample import EverySample
from align.rounds.pair_selections import DrawnPair
from align.rounds.plan import RoundPlan
from align.rounds.settings import RoundSettings
from align.rounds.weights import reference_hash
from align.sampling.decoding_rows import watched
from align.sampling.generation import Generation, Job, Request
from align.sampling.local import TransformersEngine
from align.sampling.logit_mixture import LogitMixture, MixtureEngine
from align.scoring import score_responses
from tests.models.test_reference import disturb, load
from tests.rounds.runs import command, world_model
from tests.rounds.test_kills import random_kills
from tests.rounds.test_online import CONSTANT, run
from tests.tiny import tiny_model, tiny_tokenizer

__all__ = ["world_model"]
PROMPTS = [[0, 9, 10, 11, 12], [0, 20, 21]]
SHARES = [0.3, 1.0, -0.5, 0.0]


def two_models(family: str = "llama") -> tuple[Any, Reference]:
    """A policy some way from its reference, which is a second model."""
    policy = tiny_model(family, dtype=torch.float64)
    use_packed_attention(policy)
    reference = FrozenCopy().build(policy, Backbone("x"), None, score_responses)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy, reference


def engine(policy: Any, reference: Reference, mixture: LogitMixture) -> MixtureEngine:
    return MixtureEngine(policy, reference, mixture, tokenizer=tiny_tokenizer(), eos_ids=[1])


def jobs(samples: int) -> list[Job]:
    return [Job(place, Request.of_ids(ids), range(samples)) for place, ids in enumerate(PROMPTS)]


def their_logprobs(policy: Any, reference: Any, ids: list[int], share: float) -> torch.Tensor:
    """TRL's former GeometricMixtureWrapper: the log-softmax of both models' logits added up by the mixture's coefficient."""
    row = torch.tensor([ids])
    with torch.no_grad():
        return torch.log_softmax(share * reference(row).logits + (1 - share) * policy(row).logits, -1)[0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_are_those_of_plain_forward_passes(family: str, temperature: float) -> None:
    """Of every token of every sample; greedy ones take the most probable."""
    policy, reference = two_models(family)
    shares = SHARES[:1] if temperature == 0 else SHARES
    settings = Generation(max_new_tokens=6, num_samples=len(shares), temperature=temperature)
    with watched() as seen:
        found = engine(policy, reference, LogitMixture(shares)).generate(jobs(len(shares)), settings)
    rows = [(prompt, s.ids, k) for prompt, own in zip(PROMPTS, found, strict=True) for k, s in enumerate(own)]
    for place, (prompt, ids, number) in enumerate(rows):
        expected = their_logprobs(policy, reference.model, prompt + ids, shares[number])[len(prompt) - 1 : -1]
        logprobs = torch.stack(seen[place][: len(ids)]).log_softmax(-1)
        torch.testing.assert_close(logprobs, expected, rtol=1e-6, atol=1e-6)
        assert temperature > 0 or ids == expected.argmax(-1).tolist()


def test_shares_of_one_and_of_none_are_the_models_alone() -> None:
    """XPO's pairs: the first sample of the policy, the second of the reference."""
    policy, reference = two_models()
    settings = Generation(max_new_tokens=8, num_samples=2)
    both = engine(policy, reference, LogitMixture([0.0, 1.0])).generate(jobs(2), settings)
    for number, model in enumerate((policy, reference.model)):
        alone = TransformersEngine(model, tiny_tokenizer(), [1]).generate(jobs(2), settings)
        assert [own[number] for own in both] == [own[number] for own in alone]
    assert [a.ids for a, _ in both] != [b.ids for _, b in both]


def test_half_of_the_prompts_are_the_policy_s_alone() -> None:
    """Of 2000 prompts a share of one half has a standard error of 0.011; of one prompt all samples are alike."""
    mixture = LogitMixture([-0.1, 0.1], plain=0.5)
    many = [Job(n, Request(str(n), [0]), range(2)) for n in range(2000)]
    shares = mixture.of_rows(many, 0, 0)
    pairs = set(zip(shares[::2], shares[1::2], strict=True))
    assert pairs == {(0.0, 0.0), (-0.1, 0.1)}
    assert shares.count(0.0) / len(shares) == pytest.approx(0.5, abs=0.04)
    assert mixture.of_rows(many[7:9], 0, 0) == shares[14:18]
    assert mixture.of_rows(many, 0, 1) != shares


def test_an_adapter_and_its_base(model_folder: Path) -> None:
    policy, backbone = load(model_folder, lora=LoRA(r=2))
    disturb(policy)
    reference = BaseWithoutAdapters().build(policy, backbone, None, score_responses)
    settings = Generation(max_new_tokens=6, num_samples=1, temperature=0.0)
    [first, _] = engine(policy, reference, LogitMixture([0.5])).generate(jobs(1), settings)
    ids = PROMPTS[0] + first[0].ids
    row = torch.tensor([ids])
    with torch.no_grad(), policy.disable_adapter():
        base = policy(row).logits
    with torch.no_grad():
        mixed = (0.5 * base + 0.5 * policy(row).logits)[0, len(PROMPTS[0]) - 1 : -1]
    assert first[0].ids == mixed.argmax(-1).tolist()


def test_a_round_knows_its_reference(model_folder: Path) -> None:
    """Another kind, another folder, or the weights of one that has moved: a round that is gone on with would mix others."""
    found = []
    for reference in (None, FrozenCopy(str(model_folder)), MovingReference(1, 0.5)):
        module = DPOModule(Backbone(str(model_folder)), reference=reference)
        module.build_model()
        found += [reference_hash(module), reference_hash(module)]
    disturb(module.model)
    module.built_reference.after_step(module.model, 1)
    found += [reference_hash(module)] * 2
    assert found[::2] == found[1::2]
    assert len(set(found)) == 4
    prompts: list[Any] = []
    rounds = RoundSettings(
        GoldRewards(), DrawnPair(), Generation(num_samples=2), Direction(), mixture=LogitMixture([0, 1])
    )
    marks = {RoundPlan(0, rounds, prompts, "", None, mark).fingerprint for mark in found}
    assert len(marks) == 4


@pytest.mark.slow
def test_pilaf_learns(world_model: Path) -> None:
    """As online DPO does, from pairs of which half are drawn beyond and before the policy."""
    module = DPOModule(Backbone(str(world_model)), DPO(0.1), optimizer=CONSTANT)
    options: dict[str, Any] = {"generation": Generation(max_new_tokens=8, num_samples=2), "prompts": 12}
    log = run(module, 24, groups=12, selection=DrawnPair(), mixture=LogitMixture([-0.1, 0.1], plain=0.5), **options)
    assert log.series("rounds/reward")[-1] > -4


@pytest.mark.slow
def test_random_kills(tmp_path: Path, world_model: Path) -> None:
    more = ["--trainer.callbacks.prompts", "4", "--trainer.callbacks.mixture.shares", "[-0.5,0.5]"]
    selection = "align.rounds.pair_selections.DrawnPair"
    random_kills(tmp_path, command(world_model, *more, selection=selection), 20)


def test_what_cannot_be_mixed_is_refused(world_model: Path) -> None:
    for settings in ({"shares": []}, {"shares": [0.0]}, {"shares": [1.0], "plain": 1.0}):
        with pytest.raises(ConfigError, match="shares must hold a number that is not 0"):
            LogitMixture(**settings)
    with pytest.raises(ConfigError, match=r"num_samples 1 is no multiple of the 2 mixture\.shares"):
        IterativeResampling(GoldRewards(), DrawnPair(), generation=Generation(), mixture=LogitMixture([0, 1]))
    mixture = LogitMixture([0.5])
    with pytest.raises(ConfigError, match="mixture needs a reference, SFTModule has none"):
        run(SFTModule(Backbone(str(world_model))), 1, selection=DrawnPair(), mixture=mixture)
    with pytest.raises(ConfigError, match="leave replay, conditions and mixture out"):
        run(GroupPolicyModule(Backbone(str(world_model))), 1, selection=EverySample(), mixture=mixture)
    with pytest.raises(ConfigError, match="reference Cached is not a model"):
        run(DPOModule(Backbone(str(world_model)), reference=Cached()), 1, selection=DrawnPair(), mixture=mixture)
    policy, _ = two_models()
    other = FrozenCopy().holding(tiny_model(vocab_size=70, dtype=torch.float64), score_responses)
    with pytest.raises(ConfigError, match="the policy has 64 tokens and the reference 70"):
        engine(policy, other, mixture).generate(jobs(1), Generation(max_new_tokens=2))
