"""Stage-1 adapters of tiny models, and modules of RAHF built on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from align.models.adapted import add_trained, load_bare
from align.models.backbone import Backbone, LoRA
from align.models.combined import save_combined
from align.models.stage import base_hash, write_note
from align.models.tokenizer import load_tokenizer
from align.modules.rahf import RAHFDualModule, RAHFSingleModule
from align.records import CandidateBatch, EncodedGroup, Instructions
from align.training.activation_settings import ActivationSettings
from tests.tiny import save_tiny

TEXTS = Instructions("be good", "be very bad")
FAMILIES = ["llama", "gpt2"]


def depth(family: str) -> dict[str, int]:
    return {"n_layer": 3} if family == "gpt2" else {"num_hidden_layers": 3}


def tiny(folder: Path, family: str = "llama") -> Path:
    return save_tiny(folder / "base", family, **depth(family))


def adapters(
    base: Path, out: Path, names: list[str], size: float = 0.1, instructions: Instructions | None = None
) -> Path:
    """Write random adapters of a size; 0 leaves them without effect, each with other weights all the same."""
    backbone = Backbone(str(base))
    model = load_bare(backbone, load_tokenizer(backbone))
    note = base_hash(model)
    torch.manual_seed(3)
    for name in names:
        label = "one" if name == "." else name
        model = add_trained(model, [label], LoRA(r=2, lora_alpha=4))
        for path, parameter in model.named_parameters():
            if f"lora_B.{label}." in path:
                torch.nn.init.normal_(parameter, std=size or 1.0).data.mul_(float(size > 0))
        model.base_model.set_adapter(label)
        save_combined(model, out / name, None)
    write_note(out, "test", note, names, instructions)
    return out


def dual(base: Path, stage1: Path, layers: list[int] | None = None, **options: Any) -> RAHFDualModule:
    reading = ActivationSettings(layers or [1, 2], **options.pop("reading", {}))
    backbone = options.pop("backbone", Backbone(str(base)))
    module = RAHFDualModule(backbone, stage1=str(stage1), reading=reading, **options)
    module.build_model()
    return module.eval()


def single(base: Path, stage1: str | Path | None, layers: list[int] | None = None, **options: Any) -> RAHFSingleModule:
    reading = ActivationSettings(layers or [1, 2], **options.pop("reading", {}))
    backbone = options.pop("backbone", Backbone(str(base)))
    options = {"instructions": TEXTS, **options}
    module = RAHFSingleModule(backbone, stage1=stage1 and str(stage1), reading=reading, **options)
    module.build_model()
    return module.eval()


def instructed_batch(sizes: tuple[int, ...] = (2, 2, 2), same: bool = False, seed: int = 0) -> CandidateBatch:
    """Return random groups as a batch."""
    return CandidateBatch.of(instructed_groups(sizes, same, seed))


def instructed_groups(sizes: tuple[int, ...] = (2, 2, 2), same: bool = False, seed: int = 0) -> list[EncodedGroup]:
    """Return random groups whose prompts under the two instructions have different lengths."""
    draw = torch.Generator().manual_seed(seed)
    ids = lambda n: torch.randint(5, 200, (n,), generator=draw).tolist()  # noqa: E731
    groups = []
    for number, size in enumerate(sizes):
        prompt = ids(4 + number)
        good = [0, *ids(6), *prompt]
        bad = good if same else [0, *ids(9), *prompt]
        responses = [[*ids(1 + 3 * number + n), 1] for n in range(size)]
        rest: dict[str, Any] = {
            "ranks": list(range(size)),
            "scores": [[]] * size,
            "weight": 1.0,
            "truncated": [False] * size,
        }
        groups.append(EncodedGroup(f"g{number}", prompt, responses, instructed_ids=[good, bad], **rest))
    return groups


def loss_of(module: Any, batch: CandidateBatch) -> torch.Tensor:
    value: torch.Tensor = module.loss(batch, batch.totals)
    return value


def spread(module: Any, size: float = 0.05) -> None:
    """Give the trained adapter an effect."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=size)
