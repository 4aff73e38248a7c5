"""Streaming: the same groups and steps as data that are read whole, each row once, resumed behind any step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from align.data import stream as streams
from align.data.batching import Batching
from align.data.hub import load_hub
from align.data.located import Located
from align.data.order import DistributedShard
from align.data.preference_file import PreferenceFile
from align.data.readers import rows_from
from align.data.shards import HubShard, Identity, hub_shards
from align.data.stream_loader import StreamLoader, StreamProgress
from align.errors import DataError
from tests.data.streams import Rows, contents, ids, lines, mapped, pairs, resumed, shards, streamed
from tests.data.test_module import needs


def test_a_window_of_all_rows_is_the_run_that_reads_them_whole(tmp_path: Path) -> None:
    path = shards(tmp_path / "data")
    one, other = streamed(path).train_dataloader(), mapped(path).train_dataloader()
    for epoch in range(2):
        one.set_epoch(epoch)
        other.sampler.set_epoch(epoch)
        assert contents(list(one)) == contents(list(other))


def test_without_shuffling_groups_come_in_their_order(tmp_path: Path) -> None:
    path = shards(tmp_path / "data")
    batching = Batching(groups=4, tokens=10**6, group_by_length=False, shuffle_window=0)
    steps = list(streamed(path, batching=batching).train_dataloader())
    whole = mapped(path).groups["train"]
    assert [name for step in steps for name in step.ids] == [group.id for group in whole[range(26)]]
    scores = torch.cat([batch.scores for step in steps for batch in step])
    assert torch.equal(scores.nan_to_num(-1), torch.from_numpy(whole.labels).float().nan_to_num(-1))


@pytest.mark.parametrize("window", [0, 3, 7, 100])
def test_every_row_once_by_any_number_of_processes(tmp_path: Path, window: int) -> None:
    data = streamed(shards(tmp_path / "data"), window)
    alone = list(data.train_dataloader())
    seen = [name for step in alone for name in step.ids]
    assert len(seen) == len(set(seen)) == 26
    assert [len(step.ids) for step in alone] == [4, 4, 4, 4, 4, 4, 2]
    loaders = [data.train_dataloader() for _ in range(3)]
    for rank, loader in enumerate(loaders):
        loader.steps.settings = replace(loader.steps.settings, share=DistributedShard(rank, 3))
    for step, *parts in zip(alone, *loaders, strict=True):
        assert sorted(name for part in parts for name in part.ids) == sorted(step.ids)
        (told,) = {part.totals for part in parts}
        assert told[:5] == step.totals[:5]  # sums over all processes; of the largest share it tells the rest
        assert told.rank_groups == max(sum(len(batch.ids) for batch in part) for part in parts)
        assert told.rank_tokens == max(sum(len(batch.response_ids) for batch in part) for part in parts)
        assert len({len(part) for part in parts}) == 1  # a process without groups takes part with padding


@pytest.mark.parametrize(("window", "workers"), [(0, 0), (3, 0), (7, 1), (100, 0)])
def test_a_run_goes_on_behind_any_step(tmp_path: Path, window: int, workers: int) -> None:
    data = streamed(shards(tmp_path / "data"), window, workers=workers)
    whole = contents(list(data.train_dataloader()))
    for done in (0, 1, 3, 6):
        loader = data.train_dataloader()
        steps = iter(loader)
        assert contents([next(steps) for _ in range(done)]) == whole[:done]
        again = resumed(data, loader.state_dict())
        next(iter(again))  # Lightning asks for a first step, and then begins the epoch again
        again.set_epoch(0)
        assert contents(list(again)) == whole[done:]
        again = resumed(data, loader.state_dict())  # saved before a step, as by a run killed twice
        assert contents(list(resumed(data, again.state_dict()))) == whole[done:]


def test_behind_the_last_step_comes_the_next_epoch(tmp_path: Path) -> None:
    data = streamed(shards(tmp_path / "data"), 7)
    loader = data.train_dataloader()
    loader.set_epoch(1)
    second = contents(list(loader))
    loader.set_epoch(0)
    assert contents(list(loader)) != second
    assert contents(list(resumed(data, loader.state_dict()))) == second
    assert contents(list(resumed(data, loader.state_dict(), epoch=1))) == second


def test_a_loader_made_anew_begins_the_epoch_of_its_run(tmp_path: Path) -> None:
    """Lightning asks it for the first step before it names the epoch, where loaders are made anew for each."""
    data = streamed(shards(tmp_path / "data"), 7)
    loader = data.train_dataloader()
    loader.set_epoch(2)
    loop = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit_loop
    loop.epoch_progress.current.processed = 2
    anew = StreamLoader(loader.steps, data.fingerprint, StreamProgress(SimpleNamespace(fit_loop=loop)))
    assert ids(list(anew)) == ids(list(loader))


def test_a_resumed_epoch_tells_of_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    chosen = ["same" if n % 5 == 0 else "a" for n in range(40)]
    path.write_text(lines([{"prompt": f"q{n}", "chosen": c, "rejected": "same"} for n, c in enumerate(chosen)]))
    data = streamed(path, 7)
    report = list(data.train_dataloader().steps)[-1]  # it comes behind the steps
    assert (report.read, report.kept, sum(report.dropped.values())) == (40, 32, 8)
    steps = iter(loader := data.train_dataloader())
    next(steps), next(steps), next(steps)
    rest = resumed(data, loader.state_dict())
    list(rest)
    assert list(rest.steps)[-1] == report


def test_a_step_waits_for_a_window_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SAMPLE", 10)
    path = tmp_path / "train.jsonl"
    path.write_text(lines(pairs(500)))
    data = streamed(path, 20)
    read = [0]
    counted = PreferenceFile.counted

    def count(self: PreferenceFile, rows: Any, report: Any) -> Any:
        for located in counted(self, rows, report):
            read[0] += 1
            yield located

    monkeypatch.setattr(PreferenceFile, "counted", count)
    steps = iter(loader := data.train_dataloader())
    next(steps)
    assert read == [20]
    for _ in range(60):
        next(steps)
    state, read[0] = loader.state_dict(), 0
    assert state["place"][1] == 240
    next(iter(resumed(data, state)))
    assert read == [20]  # what was read before is not read again


def test_where_responses_are_read_beside_others_none_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(lines([{"prompt": f"q{n}", "completion": "yes", "label": True} for n in range(17)]))
    need = needs(view="unpaired")
    need.reads_others = True
    data = streamed(path, 5, need=need)
    whole = list(data.train_dataloader())
    assert [len(step.ids) for step in whole] == [4, 4, 4, 5]
    for done in (1, 3):
        steps = iter(loader := data.train_dataloader())
        for _ in range(done):
            next(steps)
        assert contents(list(resumed(data, loader.state_dict()))) == contents(whole[done:])


class TestSeeking:
    @pytest.mark.parametrize("number", range(3))
    def test_from_any_row(self, tmp_path: Path, number: int) -> None:
        path = sorted(shards(tmp_path / "data").iterdir())[number]
        whole = list(rows_from(path))
        for start in range(len(whole) + 1):
            assert list(rows_from(path, start)) == whole[start:]

    def test_lines_before_are_not_parsed(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text('{"a": 0}\n{broken\n\n{"a": 2}\n')
        assert [row.row for row in rows_from(path, 2)] == [{"a": 2}]  # type: ignore[union-attr]

    def test_row_groups_before_are_not_touched(self, tmp_path: Path) -> None:
        path = sorted(shards(tmp_path / "data").iterdir())[2]
        content = bytearray(path.read_bytes())
        content[4:200] = bytes(196)
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged Parquet file"):
            list(rows_from(path))
        assert next(row.row["prompt"] for row in rows_from(path, 5)) == "Question 22?"  # type: ignore[union-attr]


class TestRows:
    def test_those_that_cannot_be_read_are_counted(self, tmp_path: Path) -> None:
        rows = list(pairs(30))
        rows[25] = {"prompt": "q", "chosen": "same", "rejected": "same"}
        text = lines(rows).splitlines()
        text[7] = "{broken"
        (tmp_path / "train.jsonl").write_text("\n".join(text))
        whole, data = mapped(tmp_path / "train.jsonl"), streamed(tmp_path / "train.jsonl", 10)
        report = list(data.train_dataloader().steps)[-1]
        known = whole.reports["train/train"]
        assert (report.read, report.kept, report.dropped) == (30, 28, known.dropped)
        assert report.ids == known.ids

    def test_more_than_half_stop_the_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "train.jsonl"
        bad: Rows = [{"prompt": "q", "chosen": "", "rejected": ""}]
        path.write_text(lines([*bad * 6, *pairs(5)]))
        with pytest.raises(DataError, match="6 of 11 rows cannot be used, the first: "):
            streamed(path)
        monkeypatch.setattr(streams, "SAMPLE", 5)
        path.write_text(lines([*pairs(5), *({**bad[0], "prompt": f"q{n}"} for n in range(20))]))
        steps = iter(streamed(path, 4).train_dataloader())
        next(steps)
        with pytest.raises(DataError, match="rows cannot be used"):
            list(steps)

    def test_a_label_that_the_first_rows_do_not_have(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "SAMPLE", 5)
        path = tmp_path / "train.jsonl"
        rows = [{"prompt": f"q{n}", "response": "a", "helpfulness": 1} for n in range(8)]
        path.write_text(lines([*rows, {"prompt": "x", "response": "a", "verbosity": 2}]))
        with pytest.raises(DataError, match="label 'verbosity' has no value in the first 5 rows"):
            list(streamed(path, 4, need=needs(view="singles")).train_dataloader())
        data = streamed(path, 4, need=needs(view="singles"), attributes=["helpfulness"])
        assert len([name for step in data.train_dataloader() for name in step.ids]) == 9

    def test_mixed_layouts(self, tmp_path: Path) -> None:
        path = shards(tmp_path / "data")
        (path / "train-00003-of-00003.jsonl").write_text(lines([{"prompt": "q", "response": "a", "helpfulness": 1}]))
        with pytest.raises(DataError, match="mixed layouts"):
            list(streamed(path).train_dataloader())

    def test_a_shipped_validation_split_is_read_whole_and_shares_no_prompt(self, tmp_path: Path) -> None:
        path = shards(tmp_path / "data")
        (path / "validation.jsonl").write_text(lines(pairs(4)))
        data = streamed(path, 7)
        assert len(data.groups["val"]) == len(data.examples("val")) == 4
        seen = {name for step in data.train_dataloader() for name in step.ids}
        assert len(seen) == 22
        assert not (tmp_path / "runs").exists()


def test_a_hub_that_fails_is_one_line() -> None:
    class Broken:
        def skip(self, start: int) -> Any:
            yield {"prompt": "q"}
            raise ConnectionError("the network is gone")

    rows = HubShard(Broken(), "own/pairs [train]", Identity("a", 0, "")).rows(4)
    assert next(rows) == Located("own/pairs [train], row 5", {"prompt": "q"})
    with pytest.raises(DataError, match=r"own/pairs \[train\]: cannot be read behind row 5 \(the network is gone\)"):
        next(rows)


def test_a_folder_that_the_datasets_library_reads(tmp_path: Path) -> None:
    """Saved datasets are read row by row; a hub id goes the same way as a folder in one of its layouts."""
    from datasets import Dataset

    Dataset.from_list(list(pairs(20))).save_to_disk(tmp_path / "saved")
    data = streamed(tmp_path / "saved", 7)
    whole = list(data.train_dataloader())
    assert sorted(ids(whole)) == sorted(ids(list(data.train_dataloader())))
    steps = iter(loader := data.train_dataloader())
    next(steps), next(steps)
    assert ids(list(resumed(data, loader.state_dict()))) == ids(whole[2:])
    path = shards(tmp_path / "data")
    (path / "train-00001-of-00003.jsonl.gz").unlink()
    (path / "train-00002-of-00003.parquet").rename(tmp_path / "one.parquet")
    (path / "train-00001-of-00003.jsonl").write_text(lines(pairs(6, 11)))
    parts = hub_shards(load_hub(str(path), streaming=True), "train")
    assert [len(list(part.rows(3))) for part in parts] == [8, 3]
    assert list(parts[1].rows(3)) == list(parts[1].rows())[3:]
