"""What doing a step took stands in its record, and in tables."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from align.cli.included_configs import configs_of, content_of
from align.cli.main import main
from align.studies.study_file import read_study
from align.studies.tasks import tasks_of
from tests.studies.things import write_study

WORK = "import subprocess, sys, time; from pathlib import Path; Path(sys.argv[1]).mkdir()\n"
SPIN = "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def write_costs(folder: Path, program: str, column: str = "record:cpu_seconds") -> str:
    (folder / "spin.py").write_text(program)
    table = {"rows": {"A": "a"}, "columns": {"CPU": column}}
    steps = {"a": "python ${study}/spin.py ${here} ${seed}", "cost": {"table": table}}
    return str(write_study(folder, steps, seeds=[0, 1]))


@pytest.mark.parametrize("workers", [1, 2])
def test_cpu_seconds_of_a_step_and_of_what_it_started(workers: int, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(f"import time\n{SPIN}")
    own = f"{WORK}{SPIN}subprocess.run([sys.executable, {str(tmp_path / 'child.py')!r}])\n"
    before = spent()
    assert main(["study", write_costs(tmp_path, own), "--workers", str(workers)]) == 0
    row = json.loads(Path("out/cost/table.json").read_text())["rows"]["A"]["CPU"]
    assert all(value >= 0.6 for value in row["values"].values())
    assert sum(row["values"].values()) == pytest.approx(spent() - before, abs=0.2)  # tenths are kept
    assert json.loads(Path("out/study/a-0.json").read_text())["seconds"] > 0


def spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_of_a_step_that_was_cut_off_they_are_not_known(tmp_path: Path) -> None:
    study = write_costs(tmp_path, WORK)
    assert main(["study", study]) == 0
    record = Path("out/study/a-1.json")
    record.write_text(record.read_text().replace('"finished"', '"begun"'))
    (tmp_path / "spin.py").write_text(WORK.replace("mkdir()", "mkdir(exist_ok=True)"))
    record.write_text(json.dumps(json.loads(record.read_text()) | {"reads": reads_of(study)}))
    assert main(["study", study]) == 0
    cost = json.loads(Path("out/cost/table.json").read_text())["rows"]["A"]["CPU"]
    assert cost["seeds"] == 2
    assert list(cost["values"]) == ["0"]


def reads_of(study: str) -> object:
    """Return what the record of step a-1 would say that it reads now."""
    return tasks_of(read_study(content_of(study), Path(study)), configs_of)["a-1"].reads


@pytest.mark.bad_input
def test_what_is_not_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", write_costs(tmp_path, WORK, "record:cpu")]) == 3
    assert "record:cpu: a is not recorded (one of seconds, cpu_seconds" in capsys.readouterr().out
