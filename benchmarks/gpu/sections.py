"""The sections of the table, in the order of their worth; each shows its lines as it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from align.models.backbone import LoRA
from align.modules.dpo import DPOModule
from align.modules.pro import PROModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.records import EncodedGroup
from benchmarks.gpu import attention, layout_check, parts
from benchmarks.gpu.known_lengths import Kind, groups_of, lengths_of
from benchmarks.gpu.peer import Peer
from benchmarks.gpu.peer_losses import list_loss, pair_loss
from benchmarks.gpu.shapes import LLAMA_8B, QWEN_HALF_B, Shape
from benchmarks.gpu.table import Table
from benchmarks.gpu.training import Run

LISTS = 8
"""Responses of a list."""
STEP: dict[Kind, int] = {"hh": 64, "uf": 64, "lists": 32}
"""Groups of an optimiser step."""


@dataclass(frozen=True)
class Bench:
    """Where the sections run, and in what size."""

    table: Table
    device: str
    tiny: bool

    def shape(self, shape: Shape) -> Shape:
        """Return the shape, or a small one of its family."""
        return shape.tiny() if self.tiny else shape

    def groups(self, kind: Kind, shape: Shape) -> list[EncodedGroup]:
        """Return groups of real lengths for a vocabulary."""
        lengths = lengths_of(kind, shrink=16)[::16] if self.tiny else lengths_of(kind)
        return groups_of(lengths, self.shape(shape).sizes["vocab_size"])

    @property
    def tokens(self) -> int:
        """Return the budget of a micro-batch."""
        return 256 if self.tiny else 16384

    def counts(self, kind: Kind, steps: int = 10, warm_up: int = 3) -> dict[str, int]:
        """Return groups of a step, and how many steps."""
        if self.tiny:
            return {"step_groups": 4, "warm_up": 1, "steps": 2}
        return {"step_groups": STEP[kind], "warm_up": warm_up, "steps": steps}

    def train(self, make: Any, kind: Kind, shape: Shape = QWEN_HALF_B, **options: Any) -> Callable[[], dict[str, Any]]:
        """Return a measured run of a module."""
        groups = options.pop("groups", None) or self.groups(kind, shape)
        settings = {**self.counts(kind), "tokens": self.tokens, **options}
        return lambda: Run(make, self.shape(shape), groups, **settings).measure(self.device)


def check(bench: Bench) -> None:
    """Losses and gradients of all layouts against padded rows, and the loss that DPO starts from."""
    for precision in ("float32", "bf16"):
        work = lambda p=precision: layout_check.compare(bench.device, p, tiny=bench.tiny)  # noqa: E731
        bench.table.measure("check", precision, 60, work)


def dpo(bench: Bench) -> None:
    """Full DPO of 0.5B, reference at each step, in every layout; last the kernels of one step."""
    for layout in ("packed", "padded", "shared"):
        for kind in ("hh", "uf") if layout != "shared" else ("hh",):
            run_dpo(bench, kind, layout)
    options = bench.counts("hh", steps=1, warm_up=1) | {"profiled": True, "backbone": {"layout": "packed"}}
    bench.table.measure("dpo", "hh packed, profiled", 60, bench.train(DPOModule, "hh", passes=4.0, **options))


def run_dpo(bench: Bench, kind: Kind, layout: str) -> dict[str, Any]:
    """Measure one run of DPO."""
    work = bench.train(DPOModule, kind, passes=4.0, backbone={"layout": layout})
    return bench.table.measure("dpo", f"{kind} {layout}", 90, work)


def peer(bench: Bench) -> None:
    """Ours over padding-free rows on the same steps; what a section before has measured is not measured again."""
    for kind in ("hh", "uf", "lists"):
        known = bench.table.found.get("dpo", {}).get(f"{kind} packed")
        if kind == "lists":
            ours = bench.table.measure("peer", "lists, ours", 60, bench.train(PROModule, kind))
        else:
            ours = known or run_dpo(bench, kind, "packed")
        loss = list_loss(LISTS) if kind == "lists" else pair_loss
        options = {**bench.counts(kind), "loss": loss, "reference": kind != "lists"}
        run = Peer(bench.shape(QWEN_HALF_B), bench.groups(kind, QWEN_HALF_B), bench.tokens, **options)  # type: ignore[arg-type]
        theirs = bench.table.measure("peer", f"{kind}, padding-free", 60, lambda r=run: r.measure(bench.device))  # type: ignore[misc]
        ratio(bench, f"{kind}, ratio", ours, theirs)


def ratio(bench: Bench, name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Show how many times as many groups a second ours does."""
    if "failed" not in ours and "failed" not in theirs:
        bench.table.measure("peer", name, 5, lambda: {"ratio": ours["groups_per_s"] / theirs["groups_per_s"]})


def lora8b(bench: Bench) -> None:
    """DPO of adapters on 8B in bfloat16, the reference being the base, activations computed again."""
    settings = {"dtype": "bfloat16", "lora": LoRA(r=16), "gradient_checkpointing": True}
    for kind, groups in (("hh", 64), ("uf", 16)):
        counts = bench.counts(kind, 4, 2) | ({} if bench.tiny else {"step_groups": groups})  # type: ignore[arg-type]
        work = bench.train(DPOModule, kind, LLAMA_8B, passes=3.0, backbone=settings, **counts)  # type: ignore[arg-type]
        bench.table.measure("lora8b", kind, 75, work)


def attention_alone(bench: Bench, ways: tuple[str, ...] = ("ours", "rows", "dense")) -> None:
    """Forward and backward of attention as an 8B model has it."""
    shape = ((4, 2, 16), bench.device, 2) if bench.tiny else ((32, 8, 128), bench.device, 10)
    kinds: dict[str, list[list[int]]] = {name: lengths_of(name) for name in ("hh", "uf", "lists")}  # type: ignore[arg-type]
    kinds["long"] = [[3000, 300, 300]] * 8
    for kind, lengths in kinds.items():
        own = [[n // 16 + 1 for n in row] for row in lengths] if bench.tiny else lengths
        filled = attention.fill(own, bench.tokens)
        found = {}
        for name in ways:
            work = lambda n=name, f=filled: attention.timed(attention.WAYS[n](f, bench.device), *shape)  # noqa: E731
            found[name] = bench.table.measure("attention", f"{kind} {name}", 60, work)
        if not any("failed" in found.get(name, {"failed"}) for name in ("ours", "rows")):
            share = {"of_flash_rate": found["ours"]["own_tflops"] / found["rows"]["own_tflops"]}
            bench.table.measure("attention", f"{kind} ours/rows", 5, lambda s=share: s)  # type: ignore[misc]


def flex(bench: Bench) -> None:
    """FlexAttention on the same groups, as it is and under windows and soft caps; it compiles for long."""
    attention_alone(bench, ("flex", "flex, capped", "parts, capped"))


def rm(bench: Bench) -> None:
    """A reward model of 0.5B on pairs."""
    bench.table.measure("rm", "hh", 45, bench.train(RewardModel, "hh", head=False))


def sft(bench: Bench) -> None:
    """Fine-tuning of 0.5B on the better responses."""
    groups = [
        g._replace(response_ids=g.response_ids[:1], ranks=[0], scores=g.scores[:1], truncated=[False])
        for g in bench.groups("uf", QWEN_HALF_B)
    ]
    bench.table.measure("sft", "uf", 45, bench.train(SFTModule, "uf", groups=groups))


def sampling(bench: Bench) -> None:
    """Sixteen samples of a prompt, against `generate`."""
    prompts = [group.prompt_ids for group in bench.groups("uf", QWEN_HALF_B)][:: 1 if bench.tiny else 32]
    drawing = parts.Drawing(bench.shape(QWEN_HALF_B), prompts, samples=16, tokens=4 if bench.tiny else 64)
    for name in ("ours", "generate"):
        bench.table.measure("sampling", name, 45, lambda n=name: drawing.measure(n, bench.device))  # type: ignore[misc]


def optimizer(bench: Bench) -> None:
    """What follows the backward pass of 0.5B: norm and clipping, AdamW, a checkpoint of the weights."""
    work = lambda: parts.after_backward(bench.shape(QWEN_HALF_B), bench.device)  # noqa: E731
    bench.table.measure("optimizer", "0.5B", 60, work)


def compiled(bench: Bench) -> None:
    """DPO of a quarter of 0.5B's layers with and without a compiled decoder; all of them would compile for long."""
    shape = replace(QWEN_HALF_B, sizes={**QWEN_HALF_B.sizes, "num_hidden_layers": 6})
    for name, compiles in (("off", False), ("on", True)):
        backbone = {"layout": "packed", "compile": compiles}
        work = bench.train(DPOModule, "hh", shape, passes=4.0, backbone=backbone)
        with torch.compiler.set_stance("default", force_backend="eager" if bench.tiny else None):
            bench.table.measure("compile", f"hh packed, {name}", 120, work)


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "check": check,
    "dpo": dpo,
    "peer": peer,
    "lora8b": lora8b,
    "attention": attention_alone,
    "rm": rm,
    "sft": sft,
    "sampling": sampling,
    "optimizer": optimizer,
    "compile": compiled,
    "flex": flex,
}
OPTIONAL = ("flex",)
"""Sections that run only where they are named."""


def run(table: Table, device: str, *, tiny: bool, only: list[str]) -> None:
    """Run the sections that are asked for, or all but the optional ones."""
    bench = Bench(table, device, tiny)
    for name, section in SECTIONS.items():
        if name in (only or set(SECTIONS) - set(OPTIONAL)):
            section(bench)
