"""An optimiser step waits for the device once, where it is decided whether to take it; counted on fake CUDA tensors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.modules.aligned import adapters, tiny
from tests.waits.fake_device import compile_guard

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the fake device is compiled by g++")
METHODS = Path(__file__).parents[2] / "configs" / "method"
SINGLES = {
    *("kto", "bco", "sft", "dpa", "steerlm", "sppo", "dro", "pmpo", "filtered_likelihood", "reward_weighted"),
    *("bon_sft", "chain_of_hindsight", "score_conditioned", "sft_pro", "reward_model_multi"),
}
LISTS = {
    *("pro", "pro_first_term", "pro_no_sft", "pro_no_temperature", "pro_released", "lipo", "list_softmax", "list_sum"),
    *("listmle", "rrhf", "infonca", "nca", "set_contrast"),
}
OPTIONS = {
    "lorra": ["--model.stage1", "none"],
    **{name: ["--model.stage1", "{folder}/stage1"] for name in ("rahf_dual", "rahf_dual_code", "rahf_dual_paper")},
    "rahf_single": ["--model.stage1", "{folder}/single"],
}
FAST = {"dpo"}


class Guarded(NamedTuple):
    """The compiled guard, and tiny models."""

    library: Path
    folder: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    folder = tmp_path_factory.mktemp("fake")
    base = tiny(folder)
    adapters(base, folder / "stage1", ["good", "bad"])
    adapters(base, folder / "single", ["."])
    return Guarded(compile_guard(folder), folder)


def asked(guarded: Guarded, method: str, *options: str, ranks: int = 1) -> dict[str, Any]:
    """Run a step of a method in a process of its own: torch looks for its device once."""
    size = "1" if method in SINGLES else "4" if method in LISTS else "2"
    own = [option.format(folder=guarded.folder) for option in OPTIONS.get(method, [])]
    words = [*map(str, guarded), method, size, str(ranks), *own, *options]
    command = [sys.executable, "-m", "tests.waits.step", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def in_all(told: list[list[Any]]) -> int:
    return sum(count for count, *_ in told)


@pytest.mark.parametrize("method", sorted(FAST))
def test_a_step_waits_once(method: str, guarded: Guarded) -> None:
    found = asked(guarded, method)
    assert in_all(found["waits"]) <= 1, found["waits"]
    assert in_all(found["kernels"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted({path.stem for path in METHODS.glob("*.yaml")} - FAST))
def test_every_method_waits_once(method: str, guarded: Guarded) -> None:
    found = asked(guarded, method)
    assert in_all(found["waits"]) <= 1, found["waits"]


@pytest.mark.slow
def test_an_adapter_switched_off_takes_no_wait(guarded: Guarded) -> None:
    found = asked(guarded, "dpo", "--model.backbone.lora.r", "2")
    assert in_all(found["waits"]) <= 1, found["waits"]
    kernels = in_all(found["kernels"])
    assert kernels < 280, found["kernels"]  # of two micro-batches; 615 when each name was summed by itself


ENTROPY = ["--model.objective.top_entropy_quantile", "0.2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [("dpo", []), ("aot", []), ("aot_unpaired", []), ("kto", []), ("bco", []), ("grpo", []), ("grpo", ENTROPY)],
    ids=["dpo", "aot", "aot_unpaired", "kto", "bco", "grpo", "grpo of high entropy"],
)
def test_one_of_several_ranks_waits_once(method: str, options: list[str], guarded: Guarded) -> None:
    """What ranks tell each other stays on the device; how many rows to expect of one the loader knows."""
    found = asked(guarded, method, *options, ranks=2)
    assert in_all(found["waits"]) <= 1, found["waits"]
