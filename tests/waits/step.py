"""Runs two optimiser steps of a method on the fake device and prints, as JSON, what the second asked of it.

    python -m tests.waits.step LIBRARY FOLDER METHOD SIZE RANKS [option ...]

LIBRARY is the compiled guard, FOLDER holds the tiny model `base` (and `stage1`, its adapters), SIZE is the number of
candidates of a group, options are those of `align fit`. Of several RANKS this is the first; the others say nothing.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.waits.fake_device import load

load(Path(sys.argv[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.cuda.amp.common  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.distributed._tools import fake_collectives  # noqa: E402, F401  # what they do to fake tensors
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402
from torch.utils._foreach_utils import _foreach_supported_types  # noqa: E402
from torch.utils._python_dispatch import _disable_current_modes  # noqa: E402

from align.cli.included_configs import with_configs  # noqa: E402
from align.cli.lightning import AlignCLI, prepare  # noqa: E402
from align.distributed import sum_over_ranks  # noqa: E402
from align.models.references.reference_cache import Cached, candidate_keys  # noqa: E402
from align.records import FROM_REFERENCE, CandidateBatch, EncodedGroup, Labels, SampledRound, Scale, Step  # noqa: E402
from align.training.rollouts import Rollouts  # noqa: E402
from tests.waits.watch import ROOT, Watch, python_data_watched  # noqa: E402

CUDA = "cuda"
SINGLES = {"regression", "singles", "unpaired", "win_rates", "hindsight", "best_of", "regression_rows"}


class Built(AlignCLI):
    """Builds the module of a run and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None: ...
    def use_folder(self, root: Path) -> None: ...


def build(folder: Path, method: str, options: list[str]) -> Any:
    words = ["fit", "-c", str(ROOT / "configs" / "method" / f"{method}.yaml")]
    words += [
        "--data",
        "PreferenceFileDataModule",
        "--data.path",
        "none",
        "--model.backbone.path",
        str(folder / "base"),
    ]
    words += ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.callbacks", "null"]
    words += ["--trainer.default_root_dir", str(folder / "run"), *options]
    words = with_configs(words)
    prepare(words)
    return Built(words).model


def groups(module: Any, count: int, size: int) -> list[EncodedGroup]:
    draw = random.Random(0)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(5, 60) for _ in range(draw.randint(low, high))]

    made = []
    for g in range(count):
        labels = [[float((g + i) % 2) if size == 1 else float(size - i)] for i in range(size)]
        responses, instructed = [ids(2, 9) for _ in range(size)], [ids(4, 9) for _ in range(2)]
        made.append(
            EncodedGroup(f"g{g}", ids(4, 9), responses, list(range(size)), labels, 1.0, [False] * size, instructed)
        )
    return made


def step_of(module: Any, size: int) -> Step:
    """Return a step of two micro-batches."""
    rows = groups(module, 12, size)
    names: tuple[str, ...] = ("score",)
    if hasattr(module, "exploring"):
        names = (FROM_REFERENCE,)
    if hasattr(module, "begin_round"):
        names = ("reward", "finished")
        rows = [row._replace(scores=[[*scores, 1.0] for scores in row.scores]) for row in rows]
        module.rollouts = rollouts_of(module, rows)
    batches = [CandidateBatch.of(part, attributes=names) for part in (rows[:6], rows[6:])]
    if getattr(module, "reads_others", False):
        batches = [b.beside(own, [*own[1:], own[0]]) for b, own in zip(batches, (rows[:6], rows[6:]), strict=True)]
    tokens = sum(len(response) for row in rows for response in row.response_ids)
    dealt = batches[0].totals._replace(rank_groups=len(rows), rank_tokens=tokens)  # as a loader has it
    return Step([batch._replace(totals=dealt) for batch in batches])


def fill_cache(module: Any, step: Step) -> None:
    """Give a reference that is looked up something to find."""
    if isinstance(reference := getattr(module, "reference", None), Cached):
        found = {key: (-1.0, 2) for batch in step for key in candidate_keys(batch)}
        reference._table.values |= found


def rollouts_of(module: Any, rows: list[EncodedGroup]) -> Rollouts:
    """Return what a round has computed of its samples, for a step that is not its first."""
    lengths = np.array([len(response) for row in rows for response in row.response_ids])
    sizes, numbers = np.array([len(row.response_ids) for row in rows]), np.zeros(len(lengths))
    more: dict[str, Any] = {"temperature": 1.0, "steps": 2, "batches": list, "path": Path("none"), "sha256": ""}
    found = Rollouts(SampledRound(0, [row.id for row in rows], sizes, lengths, numbers, numbers + 1, **more))
    names = ["old_logprobs", "advantages", *(["reference_logprobs"] if module.reads_reference else [])]
    names += ["old_values", "returns"] if hasattr(module, "critic") else []
    found.columns = {name: torch.zeros(int(lengths.sum())) for name in names}
    return found


def on_device(module: Any) -> None:
    """Put fake tensors of the device in the place of parameters and buffers: fake parameters cannot be moved."""
    made: dict[torch.Tensor, torch.Tensor] = {}  # those that are tied stay so
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is None:
                    continue
                if value not in made:
                    fake = torch.empty_like(value, device=CUDA)
                    made[value] = torch.nn.Parameter(fake, value.requires_grad) if held is part._parameters else fake
                held[name] = made[value]
    module._device = torch.device(CUDA, 0)


def trainer_of(module: Any) -> tuple[Any, torch.optim.Optimizer]:
    """Return what a step asks of a Trainer, and an optimiser."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], fused=False, foreach=False)
    reduce = lambda value, **_: sum_over_ranks(value)  # noqa: E731
    strategy = SimpleNamespace(reduce=reduce, backward=lambda loss, _: loss.backward())
    told = {
        "accumulate_grad_batches": 1,
        "world_size": dist.get_world_size() if dist.is_initialized() else 1,
        "precision": "bf16-mixed",
        "global_step": 0,
        "current_epoch": 0,
    }
    return SimpleNamespace(optimizers=[optimizer], strategy=strategy, callbacks=[], **told), optimizer


def take(module: Any, optimizer: torch.optim.Optimizer, step: Step, watch: Watch) -> None:
    """Do what Lightning does in an optimiser step, up to the optimiser's own kernels."""
    watch.phase = "transfer"
    step = module.transfer_batch_to_device(step, module.device, 0)
    watch.phase = "forward"
    with torch.autocast(CUDA, torch.bfloat16):
        loss = module.training_step(step, 0)
    watch.phase = "backward"
    loss.backward()
    watch.phase = "end"
    module.on_before_optimizer_step(optimizer)
    module.configure_gradient_clipping(optimizer, 1.0)
    optimizer.zero_grad()


def run(folder: Path, method: str, size: int, options: list[str], ranks: int = 1) -> dict[str, Any]:
    module = build(folder, method, options)
    module.labels = Labels(("score",), (Scale(0.0, 1.0),), (0.5,))
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *_, **__: True  # type: ignore[assignment]
    module.build_model()
    if ranks > 1:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    watch, step = Watch(), step_of(module, size)
    fill_cache(module, step)
    _foreach_supported_types.append(FakeTensor)  # those of a real device are of one type, and take one kernel
    torch.Tensor.as_subclass = unread  # type: ignore[method-assign,assignment]
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_device(module)
        module._trainer, optimizer = trainer_of(module)
        module.start_checked = module.warned = True
        module.log = lambda name, value, **_: watch.wait("logged from the device") if _held(value) else None
        with python_data_watched(watch), watch:
            take(module, optimizer, step, watch)  # what is found out once
            watch.waits.clear()
            watch.kernels.clear()
            take(module, optimizer, step, watch)
    return {"waits": _told(watch.waits), "kernels": _told(watch.kernels)}


def unread(tensor: torch.Tensor, kind: Any) -> torch.Tensor:
    """Return a tensor that nothing is done with (`align.training.objective_call.visible`), which cannot be fake."""
    with _disable_current_modes():
        return torch.Tensor._make_subclass(kind, torch.empty(0))


def _held(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or value.device.type == CUDA  # Lightning puts plain numbers there


def _told(counts: Any) -> list[list[Any]]:
    return [[count, *what] for what, count in counts.most_common()]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    _, _, folder, method, size, ranks, *options = sys.argv
    print(json.dumps(run(Path(folder), method, int(size), options, int(ranks))))
