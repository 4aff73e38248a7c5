"""Labels by name: one source, sources of a kind, sources of two kinds, chosen ones, and the totals they add up to."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from align.data.batching import Batching
from align.data.data_module import PreferenceDataModule
from align.data.helpsteer import ATTRIBUTES, HelpSteer, HelpSteerDataModule
from align.data.hh_rlhf import HHRLHF
from align.data.mixture import MixtureDataModule
from align.data.preference_file import PreferenceFile
from align.data.splits import Splits
from align.data.ultrafeedback import ASPECTS, UltraFeedback
from align.errors import ConfigError, DataError
from align.records import CandidateBatch, Example, Message, Scale, column_of
from tests.data.test_module import needs

BOTH = (
    *(f"hs-{name}" for name in ATTRIBUTES),
    *(f"uf-{name}" for name in ("overall_score", "instruction_following", "truthfulness", "honesty", "helpfulness")),
)
"""The outputs of DPA's reward model in their order (methods-preference 3)."""


def helpsteer(path: Path, rows: int = 6, **values: int | None) -> str:
    rated = [
        {"prompt": f"p{i // 2}", "response": f"r{i}", **dict.fromkeys(ATTRIBUTES, i % 5), **values} for i in range(rows)
    ]
    path.write_text("\n".join(map(json.dumps, rated)))
    return str(path)


def ultrafeedback(path: Path, rows: int = 3) -> str:
    rated = [
        {
            "response": f"u{i}",
            "overall_score": i,
            "annotations": {a: {"Rating": "N/A" if a == "honesty" and i == 1 else str(i)} for a in ASPECTS},
        }
        for i in (1, 5)
    ]
    path.write_text("\n".join(json.dumps({"instruction": f"q{n}", "completions": rated}) for n in range(rows)))
    return str(path)


def mixture(folder: Path, **options) -> MixtureDataModule:
    sources = [HelpSteer(helpsteer(folder / "hs.jsonl")), UltraFeedback(ultrafeedback(folder / "uf.jsonl"))]
    return connected(MixtureDataModule(sources, splits=Splits(0), **options))


def connected(data: PreferenceDataModule, view: str = "regression") -> PreferenceDataModule:
    data.connect(needs(view))
    return data


def one_batch(data: PreferenceDataModule) -> CandidateBatch:
    data.batching = Batching(groups=100, tokens=10**9)
    ((batch,),) = data.train_dataloader()
    return batch


def test_two_kinds_have_disjoint_named_columns(tmp_path: Path) -> None:
    data = mixture(tmp_path)
    assert data.attributes == BOTH
    assert data.labels.scales == (*[Scale(0, 4)] * 5, Scale(1, 10), *[Scale(1, 5)] * 4)
    batch = one_batch(data)
    assert batch.attributes == BOTH
    known = ~batch.scores.isnan()
    steer = torch.tensor([i.startswith("hs") for i in batch.ids]) | known[:, 0]
    assert known[steer].tolist() == [[True] * 5 + [False] * 5] * 6
    assert not known[~steer, :5].any()
    assert known[~steer, 5:].sum() == 27  # three prompts, 5 + 4 labels
    assert data.labels.means[5] == 3  # overall scores 1 and 5
    assert data.labels.means[8] == 5  # honesty, where it is known


def test_one_kind_keeps_its_names_and_shares_columns(tmp_path: Path) -> None:
    """HelpSteer and HelpSteer2 ask the same question; a source without labels changes nothing."""
    (tmp_path / "hh.jsonl").write_text(
        json.dumps({f: f"\n\nHuman: a\n\nAssistant: {f}" for f in ("chosen", "rejected")})
    )
    first, second = (HelpSteer(helpsteer(tmp_path / f"{n}.jsonl", 2 * n)) for n in (1, 2))
    data = connected(MixtureDataModule([first, second, HHRLHF(str(tmp_path / "hh.jsonl"))], splits=Splits(0)), "lists")
    assert data.attributes == ATTRIBUTES
    assert one_batch(data).scores.isnan().all(1).sum() == 2


def test_labels_without_any_value_are_no_columns(tmp_path: Path) -> None:
    source = helpsteer(tmp_path / "a.jsonl", complexity=None)
    data = connected(HelpSteerDataModule(source, splits=Splits(0)))
    assert data.attributes == tuple(a for a in ATTRIBUTES if a != "complexity")
    empty = helpsteer(tmp_path / "b.jsonl", **dict.fromkeys(ATTRIBUTES))
    with pytest.raises(DataError, match=r"no RegressionRows in the train split.*no scores"):
        connected(HelpSteerDataModule(empty, splits=Splits(0)))


def test_attributes_can_be_chosen_and_ordered(tmp_path: Path) -> None:
    wanted = ["uf-helpfulness", "hs-verbosity"]
    data = mixture(tmp_path, attributes=wanted)
    assert data.attributes == tuple(wanted)
    assert one_batch(data).scores.shape[1] == 2
    assert data.fingerprint != mixture(tmp_path).fingerprint
    with pytest.raises(ConfigError, match=r"data\.attributes: humour has no label in the data \(there: hs-helpfulness"):
        mixture(tmp_path, attributes=["humour"])


def test_the_cache_keeps_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mixture(tmp_path)
    monkeypatch.setattr(HelpSteer, "parse", lambda *_: pytest.fail("parsed again"))
    second = mixture(tmp_path)
    assert second.labels == first.labels
    np.testing.assert_equal(second.groups["train"].labels, first.groups["train"].labels)


def test_totals_count_labels_by_weight(tmp_path: Path) -> None:
    rows = mixture(tmp_path).groups["train"]
    groups = rows[range(len(rows))]
    batch = CandidateBatch.of([g._replace(weight=0.5) for g in groups])
    assert batch.totals.labels == (6 * 5 + 27) / 2
    assert batch.totals.labelled == 12 / 2
    loaded = one_batch(mixture(tmp_path))
    assert (loaded.totals.labels, loaded.totals.labelled) == (57, 12)
    steer = CandidateBatch.of([g for g in groups if math.isnan(g.scores[0][5])])
    assert (steer.totals.labels, steer.totals.labelled) == (30, 6)


def test_a_label_column_is_picked_by_name(tmp_path: Path) -> None:
    batch = one_batch(mixture(tmp_path))
    torch.testing.assert_close(batch.labels("uf-honesty"), batch.scores[:, 8], equal_nan=True)
    torch.testing.assert_close(
        batch.labels(["hs-verbosity", "hs-coherence"]), batch.scores[:, [4, 2]].mean(1), equal_nan=True
    )
    with pytest.raises(
        ConfigError, match=r"the data has 10 labels, one has to be named as `attribute`: hs-helpfulness"
    ):
        batch.labels()
    with pytest.raises(ConfigError, match=r"attribute 'honesty': no such label in the data \(there: hs-help"):
        batch.labels("honesty")
    assert column_of(["score"], None) == 0
    (tmp_path / "l.jsonl").write_text(json.dumps({"prompt": "a", "completions": ["b", "c"], "scores": [1, 3]}))
    scored = one_batch(
        connected(MixtureDataModule([PreferenceFile(str(tmp_path / "l.jsonl"))], splits=Splits(0)), "lists")
    )
    assert scored.labels().tolist() == [3, 1]
    plain = scored._replace(scores=torch.zeros(2, 0), attributes=())
    assert plain.labels().isnan().all()


def test_an_example_names_its_columns() -> None:
    with pytest.raises(ValueError, match="do not name the columns"):
        Example("e", (Message("user", "a"),), ("b",), ("x",), ((1.0, 2.0),))
