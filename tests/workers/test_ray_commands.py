"""The commands on a real Ray with two workers of which one is killed: what one process gives, to the bit."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from align.cli.main import main
from tests.resume import runs
from tests.resume.runs import KILLED, Run, same
from tests.rounds.runs import command, save_world_model
from tests.rounds.test_kills import acknowledged, killing
from tests.rounds.test_kills import stored as texts
from tests.rounds.test_pool import stored
from tests.rounds.test_pool_engine import Policy
from tests.tiny import WORDS, save_reward_model
from tests.workers.sessions import drivers, gone, workers_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
RAY = ("--ray.workers", "2", "--ray.gpus", "0")
DRAWING = ("max_new_tokens", "12", "num_samples", "3", "batch_tokens", "300")


@pytest.fixture(autouse=True)
def _with_ray() -> None:
    pytest.importorskip("ray")


@contextmanager
def killing_a_worker() -> Iterator[list[int]]:
    """Kill one of two workers, once both are there, and say which; wait until it is."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05) and not killed:
            for workers in map(workers_of, drivers()):
                if len(workers) == 2:
                    time.sleep(0.5)
                    os.kill(workers[0].pid, signal.SIGKILL)
                    killed.append(workers[0].pid)

    thread = threading.Thread(target=watch)
    thread.start()
    yield killed
    over.set()
    thread.join()


def write_prompts() -> None:
    rows = [{"prompt": " ".join(f"w{k}" for k in range(n)), "response": "a"} for n in range(1, 13)]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_samples_are_those_of_one_process(tmp_path: Path) -> None:
    policy = Policy(tmp_path)
    write_prompts()
    words = ["generate", "--model.path", str(policy.folder), "--prompts", "prompts.jsonl"]
    words += [word if n % 2 else f"--generation.{word}" for n, word in enumerate(DRAWING)]
    assert main([*words, "--out", "own.jsonl"]) == 0
    with killing_a_worker() as killed:
        assert main([*words, "--out", "spread.jsonl", *RAY]) == 0
    assert len(killed) == 1
    assert Path("spread.jsonl").read_text() == Path("own.jsonl").read_text()
    assert drivers() == []


def test_scores_are_those_of_one_process(tmp_path: Path) -> None:
    reward = str(save_reward_model(tmp_path / "rm", outputs=("help", "harm")))
    rows = [
        {
            "prompt": WORDS[n % 15],
            "completions": [" ".join(WORDS[k : k + n % 9 + 1]) for k in range(4)],
            "rank": [1, 2, 3, 4],
        }
        for n in range(30)
    ]
    Path("lists.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, more in (("own", ()), ("spread", RAY)):
        words = ["data", "rank", "--data", "lists.jsonl", "--out", f"{name}.jsonl", "--rewards", f"[{reward}]"]
        with killing_a_worker():
            assert main([*words, *more]) == 0
    assert Path("spread.jsonl").read_text() == Path("own.jsonl").read_text()


def test_an_evaluation_is_that_of_one_process(tmp_path: Path) -> None:
    policy, reward = Policy(tmp_path), str(save_reward_model(tmp_path / "rm"))
    write_prompts()
    found = []
    for name, more in (("own", ()), ("spread", RAY)):
        words = ["evaluate", "--models", f"[{policy.folder}]", "--prompts", "prompts.jsonl", "--rewards", f"[{reward}]"]
        words += ["--sampling.temperatures", "[0.0, 1.0]", "--sampling.generation.max_new_tokens", "6", "--out", name]
        assert main([*words, *more]) == 0
        found.append(json.loads(Path(name, "evaluation.json").read_text()))
        kept = sorted((file.name, file.read_text()) for file in Path(name, "completions").iterdir())
        found[-1]["kept"] = kept
    assert found[0] == found[1]


def test_rounds_are_those_of_one_process_after_kills_of_worker_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged stays; weights are to the bit those of a run that samples by itself, undisturbed."""
    monkeypatch.setattr(runs, "PATIENCE", 3000)
    model = save_world_model(tmp_path / "world")
    words = [*command(model), "--trainer.max_epochs", "2", "--model.backbone.lora.r", "4"]
    own = Run(tmp_path / "own", words)
    assert own() == 0, own.log
    engine = ["--trainer.callbacks.engine", "RaySampler", "--trainer.callbacks.engine.workers", "2"]
    run = Run(tmp_path / "spread", [*words, *engine, "--trainer.callbacks.engine.gpus", "0"])
    journal = tmp_path / "journal"
    assert run(prepare=killing(journal, "after add", 2)) == KILLED, run.log
    assert acknowledged(journal)
    with killing_a_worker() as killed:
        assert run() == 0, run.log
    assert len(killed) == 1
    assert {key: text for key, (text, _) in texts(run).items()}.items() >= acknowledged(journal).items()
    rows, expected = stored(run.root), stored(own.root)
    assert {key: ids for key, (ids, _) in rows.items()} == {key: ids for key, (ids, _) in expected.items()}
    assert all(told is not None and len(told) == len(ids) for ids, told in rows.values())
    same(run, own)
    assert not list((run.root / "rounds").glob("served/*"))


def test_a_cluster_whose_workers_all_die_pauses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 75, and nothing is left running."""
    policy = Policy(tmp_path)
    write_prompts()
    over, seen = threading.Event(), set[int]()

    def reap() -> None:
        while not over.wait(0.05):
            for driver in drivers():
                seen.add(driver.pid)
                for worker in workers_of(driver):
                    os.kill(worker.pid, signal.SIGKILL)

    thread = threading.Thread(target=reap)
    thread.start()
    code = main(["generate", "--model.path", str(policy.folder), "--prompts", "prompts.jsonl", *RAY])
    over.set()
    thread.join()
    assert code == 75
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "Ray on this machine" in line]
    assert "give the same command again" in line
    assert all(map(gone, seen))
