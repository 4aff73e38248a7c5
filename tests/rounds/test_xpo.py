"""XPO: the loss of TRL's former trainer on samples of policy and reference, what rounds say of who drew, refusals."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from align.callbacks.resampling import IterativeResampling
from align.data.source import Report
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import FrozenCopy
from align.modules.xpo import XPOModule
from align.objectives.pairwise import DPO, IPO
from align.objectives.reference_free import SimPO
from align.records import FROM_REFERENCE, CandidateBatch
from align.rewards.scorers import GoldRewards
from align.rounds.pair_selections import DrawnPair, ReferencePair
from align.rounds.round_file import read_round
from align.sampling.generation import Generation
from align.sampling.logit_mixture import LogitMixture
from align.sampling.server_pool import ServerPool
from align.scoring import score_responses
from tests.formulas.preferences import xpo_of_trl
from tests.models.test_reference import disturb, load
from tests.rounds.runs import world_model
from tests.rounds.test_online import CONSTANT, run
from tests.rounds.test_online_pairs import SAMPLES, prompt_samples
from tests.tiny import random_batch, save_tiny

__all__ = ["world_model"]
ALPHA = 0.01
XPO: dict[str, Any] = {
    "selection": ReferencePair(),
    "mixture": LogitMixture([0.0, 1.0]),
    "generation": Generation(max_new_tokens=8, num_samples=2),
    "prompts": 12,
}


def labelled(reference_first: list[bool]) -> CandidateBatch:
    """Pairs, best first, of which the reference drew one."""
    batch = random_batch([2] * len(reference_first))
    drawn = [[float(first), float(not first)] for first in reference_first]
    rewards = torch.tensor([[1.0, 0.0]] * len(drawn)).flatten()
    scores = torch.stack([rewards, torch.tensor(drawn).flatten()], 1)
    return batch._replace(scores=scores, attributes=("reward", FROM_REFERENCE))


@pytest.mark.parametrize("ipo", [False, True])
def test_loss_and_gradient_are_those_of_trl(ipo: bool, model_folder: Path, tmp_path: Path) -> None:
    """Of pairs whose chosen response is the policy's, and the reference's."""
    other = save_tiny(tmp_path / "other", num_hidden_layers=1)
    objective = IPO(0.2, "sequence") if ipo else DPO(0.2)
    backbone = Backbone(str(model_folder), dtype="float64")
    module = XPOModule(backbone, objective, reference=FrozenCopy(str(other)), optimism=ALPHA)
    module.build_model()
    disturb(module.model)
    reference_first = [True, False, False]
    batch = labelled(reference_first)
    own = score_responses(module.model, batch).logprobs.view(-1, 2)
    with torch.no_grad():
        frozen = score_responses(load(other, dtype="float64")[0], batch).logprobs.view(-1, 2)
    by_policy = torch.tensor([[1, 0] if first else [0, 1] for first in reference_first])  # place of the policy's sample
    sides = [
        table.gather(1, place).flatten() for table in (own, frozen) for place in (by_policy[:, :1], by_policy[:, 1:])
    ]
    theirs = xpo_of_trl(*sides, ~torch.tensor(reference_first), beta=0.2, alpha=ALPHA, ipo=ipo)
    ours = module.loss(batch, batch.totals)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    found, expected = (torch.autograd.grad(loss, list(module.model.parameters())) for loss in (ours, theirs))
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-9)


def test_a_pair_says_who_drew() -> None:
    """The second sample is the reference's, chosen or not."""
    found = ReferencePair().build(prompt_samples(), Report())
    drawn = [[row[1] for row in example.scores] for example in found]
    assert drawn == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    assert [e.attributes for e in found] == [("reward", FROM_REFERENCE)] * len(SAMPLES)
    assert [e.response_ids for e in found] == [e.response_ids for e in DrawnPair().build(prompt_samples(), Report())]


def test_rounds_draw_from_both(world_model: Path) -> None:
    """Of a policy that has moved, the second sample of each prompt is what the start draws; the term is in the loss."""
    module = XPOModule(Backbone(str(world_model)), DPO(0.1), optimizer=CONSTANT, optimism=ALPHA)
    log = run(module, 6, groups=12, **XPO)
    losses, terms = log.series("train/loss"), log.series("train/loss/optimism")
    assert losses[0] == pytest.approx(0.6931472 + terms[0], abs=1e-5)
    assert terms[0] < 0
    record = Path("run/rounds/round-0005.jsonl")
    for example in read_round(record, hashlib.sha256(record.read_bytes()).hexdigest()):
        assert sorted(row[1] for row in example.scores) == [0.0, 1.0]


def test_the_weight_follows_its_list(world_model: Path) -> None:
    """Up to the second round the runs are the same: there the term is three times as large, or none; the last stays."""
    terms = {}
    for name, weights in (("one", ALPHA), ("three", [ALPHA, 3 * ALPHA]), ("none", [ALPHA, 0.0])):
        module = XPOModule(Backbone(str(world_model)), DPO(0.1), optimizer=CONSTANT, optimism=weights)
        terms[name] = run(module, 3, groups=12, **XPO).series("train/loss/optimism")
        Path("run").rename(name)
    assert terms["three"][0] == terms["one"][0]
    assert terms["three"][1] == pytest.approx(3 * terms["one"][1], rel=1e-5)
    assert len(terms["three"]) == 3
    assert terms["none"] == [terms["one"][0]]


def test_what_does_not_fit_is_refused(world_model: Path) -> None:
    backbone = Backbone(str(world_model))
    for options in ({"mixture": None}, {"mixture": LogitMixture([1.0, 0.0])}, {"mixture": LogitMixture([0, 1], 0.5)}):
        with pytest.raises(ConfigError, match="ReferencePair takes one sample of the policy and one of the reference"):
            IterativeResampling(GoldRewards(), ReferencePair(), generation=XPO["generation"], **options)
    with pytest.raises(ConfigError, match="others have no reference: leave out engine, or mixture"):
        IterativeResampling(GoldRewards(), **XPO, engine=ServerPool(["http://a:1/v1"]))
    for optimism in (0.0, [], [0.0, 1.0], [1.0, -1.0]):
        with pytest.raises(ConfigError, match="optimism must be positive"):
            XPOModule(backbone, optimism=optimism)
    with pytest.raises(ConfigError, match="SimPO has none: take DPO or IPO"):
        XPOModule(backbone, SimPO())
    with pytest.raises(ConfigError, match="XPOModule needs to know which response the reference drew"):
        run(XPOModule(backbone), 1, selection=DrawnPair(), generation=XPO["generation"])


def test_pairs_of_the_data_have_a_loss_without_the_term(model_folder: Path) -> None:
    """As `align check` and validation ask for it: log 2 at the start."""
    module = XPOModule(Backbone(str(model_folder)), optimism=1.0)
    module.build_model()
    batch = random_batch([2, 2])
    assert module.loss(batch, batch.totals).item() == pytest.approx(0.6931472, abs=1e-6)
