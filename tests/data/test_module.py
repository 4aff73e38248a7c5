"""The data module: splits that share no prompt, limits, the token cache, mixtures, and reports that add up."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from align.data.batching import Batching
from align.data.data_module import PreferenceDataModule
from align.data.encoding import EncodingConfig
from align.data.hh_rlhf import HHRLHFDataModule
from align.data.mixture import MixtureDataModule
from align.data.preference_file import PreferenceFile, PreferenceFileDataModule
from align.data.splits import Splits
from align.data.views import Pairs
from align.encoding.truncation import Truncation
from align.errors import ConfigError, DataError, ResumeError
from align.models.small import CHATML
from align.records import RowLayout
from tests.tiny import tiny_tokenizer, write_pairs


def needs(
    view: str = "pairs", truncation: str = "dpo", limit: int = 512, template: str | None = None
) -> SimpleNamespace:
    return SimpleNamespace(
        view=view,
        truncation=truncation,
        max_positions=limit,
        tokenizer=tiny_tokenizer(template),
        instructions=None,
        max_response=None,
        scores_turns=False,
        reads_others=False,
        reads_steps=False,
        step_groups=64,
        row_layout=RowLayout,
        take_labels=lambda labels: None,
    )


def connected(path: Path, need: SimpleNamespace | None = None, **options) -> PreferenceFileDataModule:
    data = PreferenceFileDataModule(str(path), **options)
    data.connect(need or needs())
    return data


def texts(data: PreferenceDataModule, split: str) -> set[str]:
    groups = data.groups[split]
    return {tiny_tokenizer().decode(g.prompt_ids) for g in groups[range(len(groups))]}


def test_splits_share_no_prompt_and_the_report_adds_up(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl", 200)
    path.write_text(path.read_text() * 2)  # every prompt twice
    data = connected(path, splits=Splits(0.2, 0.1))
    sizes = {split: len(groups) for split, groups in data.groups.items()}
    assert sum(sizes.values()) == 400
    assert 40 < sizes["val"] < 120
    assert not texts(data, "train") & (texts(data, "val") | texts(data, "test"))
    assert not texts(data, "val") & texts(data, "test")
    assert sum(r.read for r in data.reports.values()) == 400
    assert all(r.read == r.kept + sum(r.dropped.values()) for r in data.reports.values())


def test_the_halves_of_two_runs_share_no_prompt_and_cover_all(tmp_path: Path) -> None:
    """A reward model and a policy trained on the two halves see other prompts; validation is the same for both."""
    path = write_pairs(tmp_path / "pairs.jsonl", 400)
    halves = ("all", "first", "second")
    whole, first, second = (connected(path, splits=Splits(0.2, half=half)) for half in halves)
    seen = [{e.id for e in data.examples("train")} for data in (whole, first, second)]
    assert not seen[1] & seen[2]
    assert seen[1] | seen[2] == seen[0]
    assert 0.4 < len(seen[1]) / len(seen[0]) < 0.6
    assert [e.id for e in first.examples("val")] == [e.id for e in whole.examples("val")]
    dropped = [next(r for n, r in d.reports.items() if n.endswith("/train")).dropped for d in (first, second)]
    assert [d["prompt in the other half"] for d in dropped] == [len(seen[2]), len(seen[1])]


def test_splits_are_deterministic_and_do_not_move_with_more_data(tmp_path: Path) -> None:
    few = connected(write_pairs(tmp_path / "few.jsonl", 50), splits=Splits(0.3))
    more_path = tmp_path / "more.jsonl"
    more_path.write_text(
        (tmp_path / "few.jsonl").read_text() + write_pairs(tmp_path / "x.jsonl", 50, seed=1).read_text()
    )
    more = connected(more_path, splits=Splits(0.3))
    assert texts(few, "val") <= texts(more, "val")


def test_training_rows_of_test_prompts_are_dropped_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_pairs(folder / "train.jsonl", 30)
    lines = (folder / "train.jsonl").read_text().splitlines()
    (folder / "test.jsonl").write_text("\n".join(lines[:4]))
    data = connected(folder, splits=Splits(0.2))
    assert len(data.groups["test"]) == 4
    (train,) = [r for name, r in data.reports.items() if name.endswith("/train")]
    assert train.dropped["prompt also in the validation or test split"] == 4
    assert not texts(data, "train") & texts(data, "test")


def test_max_samples_is_a_fixed_subset_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl", 100)
    first, second = (connected(path, max_samples=20, splits=Splits(0)) for _ in range(2))
    assert len(first.groups["train"]) == 20
    assert texts(first, "train") == texts(second, "train")
    (report,) = first.reports.values()
    assert report.dropped["beyond max_samples"] == 80
    with pytest.raises(ConfigError, match="max_samples must be at least 1"):
        PreferenceFileDataModule(str(path), max_samples=0)


class TestCache:
    def test_second_start_opens_the_cache_and_reads_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_pairs(tmp_path / "pairs.jsonl", 50)
        first = connected(path)
        monkeypatch.setattr(PreferenceFile, "parse", lambda *_: pytest.fail("the file was parsed again"))
        second = connected(path)
        assert second.fingerprint == first.fingerprint
        assert second.groups["train"][range(3)] == first.groups["train"][range(3)]
        assert {k: str(v) for k, v in second.reports.items()} == {k: str(v) for k, v in first.reports.items()}

    @pytest.mark.parametrize("change", ["data", "view", "limits", "template", "splits"])
    def test_any_change_misses_the_cache(self, tmp_path: Path, change: str) -> None:
        path = write_pairs(tmp_path / "pairs.jsonl", 50)
        before = connected(path).fingerprint
        options: dict = {
            "view": {"view": Pairs("all")},
            "limits": {"encoding": EncodingConfig(truncation="pro")},
            "splits": {"splits": Splits(0.1)},
        }.get(change, {})
        if change == "data":
            write_pairs(path, 51)
        need = needs(template=CHATML) if change == "template" else needs()
        assert connected(path, need, **options).fingerprint != before

    def test_a_half_written_entry_is_made_again(self, tmp_path: Path) -> None:
        path = write_pairs(tmp_path / "pairs.jsonl", 50)
        connected(path)
        for note in Path("runs/cache/tokenised").glob("*.json"):
            note.unlink()  # as after a kill between data and note
        assert len(connected(path).groups["train"]) > 40

    def test_parallel_tokenising_gives_the_same(self, tmp_path: Path) -> None:
        path = write_pairs(tmp_path / "pairs.jsonl", 50)
        alone = connected(path)
        both = connected(path, encoding=EncodingConfig(num_proc=2, cache_dir="other"))
        assert both.groups["train"][range(5)] == alone.groups["train"][range(5)]


class TestLimits:
    def test_the_method_preset_is_lowered_to_the_context(self, tmp_path: Path) -> None:
        path = tmp_path / "long.jsonl"
        path.write_text(json.dumps({"prompt": "x" * 300, "chosen": "y" * 100, "rejected": "z"}))
        data = connected(path, needs(limit=64), splits=Splits(0))
        (group,) = data.groups["train"][range(1)]
        assert len(group.prompt_ids) + max(map(len, group.response_ids)) <= 64

    def test_own_limits_beyond_the_context_are_refused(self, tmp_path: Path) -> None:
        path = write_pairs(tmp_path / "pairs.jsonl", 5)
        with pytest.raises(ConfigError, match=r"allows 1024 tokens, the model's context is 64"):
            connected(path, needs(limit=64), encoding=EncodingConfig(truncation=Truncation()))


def test_mixture_joins_sources_with_weights(tmp_path: Path) -> None:
    first, second = (write_pairs(tmp_path / f"{n}.jsonl", 20, seed=n) for n in range(2))
    sources = [PreferenceFile(str(first), weight=2.0), PreferenceFile(str(second), weight=0.5)]
    data = MixtureDataModule(sources, splits=Splits(0), batching=Batching(groups=5, tokens=10**9))
    data.connect(needs())
    assert len(data.groups["train"]) == 40
    assert sum(len(batch.ids) for batch in data.train_dataloader()) == 50
    assert sum(len(batch.ids) for batch in data.all_batches()) == 40
    with pytest.raises(ConfigError, match=r"data\.sources is empty"):
        MixtureDataModule([])
    with pytest.raises(ConfigError, match="weight must be positive"):
        PreferenceFile("x", weight=0)


def test_data_without_the_view_says_what_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"p {i}"}) for i in range(9)))
    with pytest.raises(
        DataError, match=r"no Pairs in the train split: 9 rows, 0 groups kept, dropped: 9 fewer than two"
    ):
        connected(path, splits=Splits(0))


def test_rows_that_fit_no_limit_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": "x" * n, "chosen": "y", "rejected": "z"} for n in (5, 500)]
    path.write_text("\n".join(map(json.dumps, rows)))
    data = connected(path, needs(truncation="rahf"), splits=Splits(0))
    (report,) = data.reports.values()
    assert (report.kept, dict(report.dropped)) == (1, {"prompt longer than 256 tokens": 1})


@pytest.mark.parametrize("settings", [{"val_fraction": -0.1}, {"val_fraction": 0.6, "test_fraction": 0.4}])
def test_impossible_fractions_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="fractions must not be negative"):
        Splits(**settings)


@pytest.mark.slow
def test_the_real_file_end_to_end(shared: Path) -> None:
    data = HHRLHFDataModule(str(shared / "hh-rlhf-harmless-base" / "test.jsonl.gz"))
    data.connect(needs(limit=4096))
    assert sum(r.read for r in data.reports.values()) == 2312
    assert sum(r.dropped["empty response"] for r in data.reports.values()) == 4
    assert sum(len(g) for g in data.groups.values()) == sum(r.kept for r in data.reports.values())


def test_other_data_are_refused_at_the_end_of_an_epoch_too(tmp_path: Path) -> None:
    """Lightning asks no loader there, but the data module."""

    def module(count: int, streaming: bool = False) -> PreferenceFileDataModule:
        data = PreferenceFileDataModule(str(write_pairs(tmp_path / "pairs.jsonl", count)), streaming=streaming)
        data.connect(needs())
        data.trainer = SimpleNamespace(training=True, world_size=1, global_rank=0)  # type: ignore[assignment]
        return data

    state = module(40).state_dict()
    module(40).load_state_dict(state)
    with pytest.raises(ResumeError, match=f"fingerprint was '{state['fingerprint']}' in the checkpoint and is "):
        module(41).load_state_dict(state)
    streamed = module(40, streaming=True)
    with pytest.raises(ResumeError, match=r"not streamed in the checkpoint: set data\.streaming false"):
        streamed.load_state_dict(state)
    with pytest.raises(ResumeError, match=r"were streamed in the checkpoint: set data\.streaming true"):
        module(40).load_state_dict(streamed.state_dict())
