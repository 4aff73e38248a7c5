"""The files that start a run on many machines: their shells and launchers take them, and all start one command."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from tests.docs.commands import ROOT
from tests.docs.test_commands import parse, parser_of

LAUNCH = ROOT / "docs" / "launch"
SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Set to 1, a machine that comes back is told where rank 0 is in every round of torchrun."""


def stubs(folder: Path, **codes: int) -> Path:
    """Make programs that write down what they are given and end with a code."""
    for name, code in codes.items():
        program = folder / name
        told = f'printf "%s\\n" "$@" > {folder}/{name}.given; env > {folder}/{name}.env'
        program.write_text(f"#!/bin/bash\n{told}\nexit {code}\n")
        program.chmod(0o755)
    return folder


def given_to(folder: Path, program: str) -> list[str]:
    return (folder / f"{program}.given").read_text().splitlines()


def shell(text: str, folder: Path, **more: str) -> int:
    """Run a script of bash with the stubs before other programs."""
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **more}
    return subprocess.run(["bash", "-c", text], env=environment, check=False, cwd=folder).returncode


def kubernetes() -> tuple[dict[str, Any], dict[str, Any]]:
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    return service, job


def launched(name: str, folder: Path) -> list[str]:
    """Return what a file gives to torchrun or srun."""
    if name == "kubernetes.yaml":
        (container,) = kubernetes()[1]["spec"]["template"]["spec"]["containers"]
        return [*container["command"], *container["args"]]
    if name == "skypilot.yaml":
        task = yaml.safe_load((LAUNCH / name).read_text())
        places = {"SKYPILOT_NODE_IPS": "one\ntwo", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
        assert shell(task["run"], stubs(folder, torchrun=0), **places, **task["envs"]) == 0
        return ["torchrun", *given_to(folder, "torchrun")]
    program = "srun" if name == "slurm.sh" else "torchrun"
    assert shell((LAUNCH / name).read_text(), stubs(folder, srun=0, torchrun=0), HOST="one") == 0
    return [program, *given_to(folder, program)]


FILES = sorted(path.name for path in LAUNCH.iterdir())


def test_there_are_four() -> None:
    assert FILES == ["kubernetes.yaml", "skypilot.yaml", "slurm.sh", "torchrun.sh"]


@pytest.mark.parametrize("name", FILES)
def test_all_start_one_command(name: str, tmp_path: Path) -> None:
    words = launched(name, tmp_path)
    command = words[words.index("align") :]
    page = (LAUNCH / "slurm.sh").read_text().replace("\\\n", " ")
    (line,) = [line for line in page.splitlines() if "align fit" in line]
    assert command == shlex.split(line[line.index("align fit") :])


@pytest.mark.parametrize("name", [name for name in FILES if name != "slurm.sh"])
def test_torchrun_takes_it_and_takes_lost_machines_back(name: str, tmp_path: Path) -> None:
    words = launched(name, tmp_path)
    read = get_args_parser().parse_args(words[1:])
    assert (read.nnodes, read.nproc_per_node, read.rdzv_backend, read.rdzv_id) == ("2", "8", "c10d", "dpo")
    assert int(read.max_restarts) > 0
    assert read.module
    assert read.training_script == "align"
    if name == "kubernetes.yaml":
        (container,) = kubernetes()[1]["spec"]["template"]["spec"]["containers"]
        set_to = {entry["name"]: entry["value"] for entry in container["env"]}
    else:
        lines = (tmp_path / "torchrun.env").read_text().splitlines()
        set_to = dict(line.split("=", 1) for line in lines if line.startswith("TORCH_"))
        assert read.rdzv_endpoint == "one:29500"
    assert set_to[SHARED_STORE] == "1"


def test_the_program_takes_the_command_on_two_machines(tmp_path: Path) -> None:
    words = launched("slurm.sh", tmp_path)
    assert parse(words[words.index("align") + 1 :]) == 0
    trainer = parser_of("fit").config["fit"].trainer
    assert (trainer.num_nodes, trainer.devices) == (2, 8)
    assert trainer.default_root_dir.startswith("/shared/")


@pytest.mark.parametrize(("code", "again"), [(0, False), (3, False), (143, True)])
def test_a_job_whose_time_is_up_goes_back_into_the_queue(code: int, again: bool, tmp_path: Path) -> None:
    script, folder = (LAUNCH / "slurm.sh").read_text(), stubs(tmp_path, srun=code, scontrol=0)
    assert shell(script, folder, SLURM_JOB_ID="17") == code
    assert (tmp_path / "scontrol.given").exists() == again
    assert not again or given_to(folder, "scontrol") == ["requeue", "17"]
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    asked = dict([*line.split(maxsplit=2)[1:], ""][:2] for line in lines)
    assert (asked["--nodes"], asked["--ntasks-per-node"]) == ("2", "8")
    assert asked["--signal"].startswith("TERM@")
    assert "--kill-on-bad-exit=1" in given_to(folder, "srun")


def test_pods_find_the_first_one() -> None:
    service, job = kubernetes()
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    name = job["metadata"]["name"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert f"--rdzv-endpoint={name}-0.{pod['subdomain']}:29500" in container["args"]
    assert pod["restartPolicy"] == "OnFailure"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
