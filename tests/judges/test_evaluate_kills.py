"""kill -9 of `align evaluate` while a judge answers: the same command ends with the same evaluation."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from tests.judges.conftest import Server
from tests.resume.runs import forked

PROMPTS, KILLS = 30, 20


def words(server: Server, model: Path, prompts: Path) -> list[str]:
    judge = ["--judge", "LanguageJudge", "--judge.responder", "Endpoint", "--judge.responder.base_url", server.url]
    judge += ["--judge.responder.model", "judge-1", "--judge.responder.api_key_env", "JUDGE_KEY"]
    judge += ["--judge.responder.concurrency", "2", "--out", "out"]
    asked = ["--models", f"[{model}]", "--prompts", str(prompts), "--sampling.generation.max_new_tokens", "4"]
    return ["evaluate", *asked, *judge]


def evaluate(folder: Path, arguments: list[str]) -> int:
    """Evaluate in this process, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    return main(arguments)


def found(folder: Path) -> dict[str, Any]:
    """Return all that an evaluation says but which replies were asked for now, and which had been kept."""
    said = json.loads((folder / "out" / "evaluation.json").read_text())
    for verdicts in said["judge"].values():
        details = verdicts.pop("details")
        verdicts["replies"] = details["questions asked"] + details["replies reused"]
    return said


@pytest.mark.slow
def test_the_same_command_ends_with_the_same_evaluation(server: Server, model_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"CASE=slow {n}", "completion": f"An answer {n}."} for n in range(PROMPTS)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments, draw = words(server, model_folder, prompts), random.Random(0)
    whole = forked(lambda: evaluate(tmp_path / "whole", arguments))
    whole.join(240)
    assert whole.exitcode == 0, (tmp_path / "whole" / "log").read_text()
    needed, killed, runs = server.count(), 0, 0
    while killed < KILLS:
        cut, code, first = tmp_path / f"cut{runs}", -9, server.count()
        mine = 0
        while code == -9:
            process, goal = forked(lambda folder=cut: evaluate(folder, arguments)), server.count() + draw.randint(1, 20)
            while process.is_alive() and (server.count() < goal or mine >= KILLS):
                time.sleep(0.005)
            process.kill()
            process.join(240)
            code = process.exitcode or 0
            killed, mine = killed + (code == -9), mine + (code == -9)
        assert code == 0, (cut / "log").read_text()
        assert found(cut) == found(tmp_path / "whole")
        assert needed <= server.count() - first <= needed + 2 * mine  # at most the two requests under way at each kill
        runs += 1
    print(f"\n{killed} kills of evaluate over {runs} evaluations: every one ended with the same verdicts")
