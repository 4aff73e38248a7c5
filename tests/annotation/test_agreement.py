"""How far raters agree, in choices and in what they say of responses: by hand, and against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_cohen_kappa
from torchmetrics.functional.nominal import fleiss_kappa as torch_fleiss

from align.annotation.annotation_store import RaterJudgment
from align.annotation.form import Field, RatingScale
from align.annotation.items import Choice
from align.annotation.rater_agreement import agreements, alphas
from align.annotation.remarks import said_of_names
from align.evaluation.krippendorff import krippendorff_alpha
from align.evaluation.statistics import cohen_kappa, fleiss_kappa
from tests.annotation.test_results import TIE, A, B, item, judged

FORM = (RatingScale(high=5).field(), Field("harm", "Harmful?"))


class TestAgreement:
    @pytest.fixture
    def said(self) -> np.ndarray:
        """[item, rater] labels of three raters who follow one hidden label three times out of five."""
        draw = np.random.default_rng(0)
        hidden = draw.integers(3, size=(80, 1))
        return np.where(draw.random((80, 3)) < 0.6, hidden, draw.integers(3, size=(80, 3)))

    def test_equals_torchmetrics(self, said: np.ndarray) -> None:
        kinds = (A, B, TIE)
        everyone = ("ann", "bob", "eve")
        rows = [judged(str(n), kinds[label], everyone[r]) for (n, r), label in np.ndenumerate(said)]
        found = {a.raters: a for a in agreements([item(str(n)) for n in range(80)], rows)}
        assert set(found) == {("ann", "bob"), ("ann", "eve"), ("bob", "eve"), everyone}
        for one, other in ((0, 1), (0, 2), (1, 2)):
            a, b = said[:, one], said[:, other]
            ours = found[everyone[one], everyone[other]]
            theirs = multiclass_cohen_kappa(torch.tensor(a), torch.tensor(b), num_classes=3)
            assert ours.kappa.value == pytest.approx(float(theirs), abs=1e-6)
            assert ours.kappa.value == pytest.approx(cohen_kappa(a.tolist(), b.tolist()))
            assert ours.rate.value == pytest.approx((a == b).mean())
            assert ours.kappa.low < ours.kappa.value < ours.kappa.high
        counts = np.stack([(said == label).sum(axis=1) for label in range(3)], axis=1)
        ours = found[everyone]
        assert ours.kappa.value == pytest.approx(
            float(torch_fleiss(torch.tensor(counts), mode="counts")), abs=1e-4
        )  # it adds 1e-5
        assert ours.kappa.value == pytest.approx(fleiss_kappa(counts))
        assert ours.kappa.low < ours.kappa.value < ours.kappa.high

    @pytest.mark.slow
    def test_interval_of_kappa_covers(self) -> None:
        """Independent raters have kappa 0; about 95 of 100 intervals hold it (3.5 standard errors below is 87)."""
        draw = np.random.default_rng(1)
        held = 0
        for _ in range(100):
            labels = draw.integers(2, size=(60, 2))
            rows = [judged(str(n), (A, B)[label], "ab"[r]) for (n, r), label in np.ndenumerate(labels)]
            kappa = agreements([item(str(n)) for n in range(60)], rows)[0].kappa
            held += kappa.low <= 0 <= kappa.high
        assert held >= 87

    def test_only_items_all_have_judged_count(self) -> None:
        rows = [judged("0", A), judged("1", A), judged("1", A, "bob"), judged("2", B, "bob")]
        (found,) = agreements([item(str(n)) for n in range(3)], rows)
        assert (found.items, found.rate.value) == (1, 1)
        assert math.isnan(found.kappa.value)  # one label only: chance is certain
        assert agreements([item("0")], [judged("0", A)]) == []

    def test_best_and_worst_are_compared_apart(self) -> None:
        three = [item(str(n), ("a", "b", "c"), tuple("xyz")) for n in range(2)]
        rows = [judged(str(n), Choice(0, 1), "ann", (0, 1, 2)) for n in range(2)]
        rows += [judged(str(n), Choice(0, 2), "bob", (0, 1, 2)) for n in range(2)]
        assert [(a.question, a.rate.value) for a in agreements(three, rows)] == [("best", 1), ("worst", 0)]


class TestRemarks:
    @pytest.fixture
    def rated(self) -> list[RaterJudgment]:
        """Ratings of both responses of three items by three raters, one of whom left the last item out."""
        said = {
            "ann": [([5, 2], ["no", "yes"]), ([4, 1], ["no", "yes"]), ([3, 3], ["no", "no"])],
            "bob": [([5, 2], ["no", "no"]), ([3, 1], ["no", "yes"]), ([3, None], ["no", None])],
            "eve": [([4, 3], ["no", "yes"]), ([5, 1], [None, "yes"])],
        }
        return [
            RaterJudgment(str(n), rater, A, (0, 1), {"rating": rating, "harm": harm})
            for rater, rows in said.items()
            for n, (rating, harm) in enumerate(rows)
        ]

    def test_kappas_are_over_responses_all_have_rated(self, rated: list[RaterJudgment]) -> None:
        found = {(a.question, a.raters): a for a in agreements([item(str(n)) for n in range(3)], rated, FORM)}
        two = found["rating", ("ann", "bob")]
        a, b = [5, 2, 4, 1, 3], [5, 2, 3, 1, 3]  # of item 2 the second response was rated by one of them
        assert (two.items, two.rate.value) == (5, pytest.approx(0.8))
        assert two.kappa.value == pytest.approx(cohen_kappa(a, b))
        three = found["harm", ("ann", "bob", "eve")]
        assert three.items == 3  # eve said nothing of one, and did not judge the last item
        assert three.kappa.value == pytest.approx(fleiss_kappa([[0, 3], [2, 1], [3, 0]]))

    def test_alpha_takes_what_there_is(self, rated: list[RaterJudgment]) -> None:
        found = {(a.question, a.level): a for a in alphas([item(str(n)) for n in range(3)], rated, FORM)}
        ratings = [[5, 5, 4], [2, 2, 3], [4, 3, 5], [1, 1, 1], [3, 3]]
        for level in ("ordinal", "interval"):
            ours = found["rating", level]
            assert ours.items == 5
            assert ours.alpha.value == pytest.approx(krippendorff_alpha(ratings, [1, 2, 3, 4, 5], level))
        harm = [["no"] * 3, ["yes", "no", "yes"], ["no", "no"], ["yes"] * 3, ["no", "no"]]
        assert found["harm", "nominal"].alpha.value == pytest.approx(krippendorff_alpha(harm, ["yes", "no"], "nominal"))
        assert math.isnan(found["pair", "nominal"].alpha.value)  # all chose the same in every item

    def test_means_by_name(self, rated: list[RaterJudgment]) -> None:
        found = {(s.name, s.field): s for s in said_of_names([item(str(n)) for n in range(3)], rated, FORM)}
        assert found["x", "rating"].mean.value == pytest.approx(((5 + 5 + 4) / 3 + 4 + 3) / 3)
        assert found["y", "rating"].prompts == 3
        assert (found["y", "harm"].value, found["y", "harm"].mean.value) == ("yes", pytest.approx((2 / 3 + 1 + 0) / 3))
