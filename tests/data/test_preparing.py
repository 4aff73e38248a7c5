"""Preparing a source: once per machine, in bounded memory, and the same whatever is encoded together."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from align.data import chunks, once, preparing
from align.data.drop_report import Report
from align.data.encoded import EncodedFile
from align.data.encoding import EncodingConfig
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.encoding.truncation import Truncation
from align.errors import ConfigError, DataError
from tests.data.test_module import connected, needs
from tests.tiny import write_pairs

fork = multiprocessing.get_context("fork")


def rated(path: Path) -> Path:
    """Write rows whose scores come and go: the first has one without a value, later ones others."""
    grades = [{"helpfulness": None}, {"verbosity": 1}, {"helpfulness": 2, "verbosity": 0}, {"coherence": None}]
    rows = [
        {"prompt": f"Question {n}?", "response": f"Answer {n}.", **grades[min(n // 5, 3) if n < 30 else n % 3]}
        for n in range(60)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def contents(data: PreferenceFileDataModule) -> Any:
    groups = {split: repr(found[range(len(found))]) for split, found in data.groups.items()}
    labels = {split: found.labels.tolist() for split, found in data.groups.items()}
    return groups, repr(labels), data.labels.attributes, {name: str(report) for name, report in data.reports.items()}


@pytest.mark.parametrize("size", [1, 3, 7])
def test_what_is_encoded_together_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    path = rated(tmp_path / "rated.jsonl")
    need = needs(view="singles")
    together = contents(connected(path, need, splits=Splits(0.3, 0.2)))
    assert together[2] == ("verbosity", "helpfulness")
    monkeypatch.setattr(preparing, "CHUNK", size)
    assert (
        contents(connected(path, need, splits=Splits(0.3, 0.2), encoding=EncodingConfig(cache_dir="other"))) == together
    )


def test_no_more_than_a_chunk_waits_to_be_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, waiting = [0], []

    def encode(chunk: chunks.Chunk, encoder: Any) -> chunks.Encoded:
        waiting.append(made[0])
        made[0] -= len(chunk.examples)
        return plain(chunk, encoder)

    def count(self: preparing.Viewing, split: str, groups: list[Any]) -> chunks.Chunk:
        made[0] += len(groups)
        return chunk(self, split, groups)

    plain, chunk = chunks.encode_chunk, preparing.Viewing._chunk
    monkeypatch.setattr(chunks, "encode_chunk", encode)
    monkeypatch.setattr(preparing.Viewing, "_chunk", count)
    monkeypatch.setattr(preparing, "CHUNK", 8)
    connected(write_pairs(tmp_path / "pairs.jsonl", 100))
    assert len(waiting) > 12
    assert max(waiting) <= 8


def test_a_fault_at_the_end_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl", 20)
    path.write_text(path.read_text() + '{"prompt": "cut o')
    with pytest.raises(DataError, match="the file ends inside this row"):
        connected(path)
    left = [p.name for p in Path("runs/cache/tokenised").iterdir()]
    assert all(name.endswith(".lock") for name in left)


def _connect(path: Path, log: Path) -> None:
    def make(self: preparing.Preparation) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(1.0)
        whole(self)

    whole = preparing.Preparation._make
    preparing.Preparation._make = make  # type: ignore[method-assign]
    assert len(connected(path).groups["train"]) > 40


def test_two_processes_tokenise_once(tmp_path: Path) -> None:
    path, log = write_pairs(tmp_path / "pairs.jsonl", 50), tmp_path / "log"
    both = [fork.Process(target=_connect, args=(path, log)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(log.read_text().split()) == 1


def _hold(folder: Path, held: Any, seconds: float) -> None:
    with once.one_at_a_time(folder, "key"):
        (folder / f".key.arrow.{os.getpid()}.part").write_text("half")
        held.set()
        time.sleep(seconds)


def _holding(folder: Path, seconds: float) -> Any:
    held = fork.Event()
    process = fork.Process(target=_hold, args=(folder, held, seconds))
    process.start()
    assert held.wait(60)
    return process


def test_who_waits_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(once, "rank_zero_info", told.append)
    monkeypatch.setattr(once, "PATIENCE", 0.2)
    process = _holding(tmp_path, 1.5)
    with once.one_at_a_time(tmp_path, "key"):
        process.join(60)
    assert len(told) == 1
    assert f"waiting for process {process.pid} on " in told[0]


def test_a_killed_holder_leaves_neither_lock_nor_half_a_file(tmp_path: Path) -> None:
    process = _holding(tmp_path, 600)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    with once.one_at_a_time(tmp_path, "key"):
        assert not list(tmp_path.glob(".key*.part"))


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"data\.encoding\.cache_dir .*file: cannot be written and locked"),
        once.one_at_a_time(tmp_path / "file", "key"),
    ):
        pass


def test_a_file_without_a_row_is_refused(tmp_path: Path) -> None:
    file = EncodedFile(tmp_path, "key", Truncation(max_total=10))
    with pytest.raises(DataError, match="no row is left to train on"):
        file.finish(Report(read=3))
    with pytest.raises(DataError, match="no row is left in the validation split: 3 rows"):
        file.finish(Report(read=3), "val")
    file.discard()
    assert not list(tmp_path.iterdir())


def test_the_collector_of_cycles_is_left_as_it_was() -> None:
    for begin, enabled in ((gc.disable, False), (gc.enable, True)):
        begin()
        with chunks._uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled


def test_how_often_cycles_are_looked_for_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[int, ...]]()
    plain = chunks.encode_chunk
    monkeypatch.setattr(chunks, "encode_chunk", lambda *given: seen.append(gc.get_threshold()) or plain(*given))
    before = gc.get_threshold()
    connected(write_pairs(tmp_path / "pairs.jsonl", 50))
    assert gc.get_threshold() == before
    assert seen[0][0] == 100 * before[0]
    path = write_pairs(tmp_path / "odd.jsonl", 20)
    path.write_text(path.read_text() + '{"prompt": "cut o')
    with pytest.raises(DataError, match="the file ends inside this row"):
        connected(path)
    assert gc.get_threshold() == before
