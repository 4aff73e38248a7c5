"""How the modules of RAHF build their model and take their step, and under which prompts Dual reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from align.activations import choose_layers, decoder_parts
from align.models.adapted import TRAINED, add_trained, attach, load_bare, usual_lora
from align.models.adapters import freeze_but
from align.models.stage import base_hash, check_note
from align.models.state_cache import StateCache, adapters_hash
from align.records import CandidateBatch, Instructions, StepTotals
from align.training.optimizer import Optimizer
from align.training.representation_metrics import record_alignment, record_divergence, warn_once
from align.training.representation_step import align_states, check_sizes, describe_reading, reduced

CONSTANT = Optimizer(warmup_ratio=0.0, lr_scheduler_type="constant")
NO_STAGE = "none"


def build_aligned(
    module: Any, depths: Sequence[float], folders: Mapping[str, Path], policy: Sequence[str]
) -> nn.Module:
    """Return base, frozen adapters and a fresh one below the highest layer; the `policy` ones stay active beside it."""
    model = load_bare(module.backbone, module.tokenizer)
    if module.stage1 not in (None, NO_STAGE):
        check_note(module.stage1, base_hash(model), module.instructions)
    module.layers = choose_layers(module.reading.target_layers, depths, len(decoder_parts(model).blocks))
    lora = module.backbone.lora or usual_lora(model)
    model = attach(model, folders)
    top = max(module.layers) + int(module.reading.legacy_lora_span)
    model = add_trained(model, [TRAINED], lora, blocks=top)
    freeze_but(model, [*policy, TRAINED], [TRAINED])
    module.cache = _cache(module, model, list(folders)) if module.reading.cache == "disk" else None
    rank_zero_info(describe_reading(module.layers, model))
    model.train()
    return model  # type: ignore[no-any-return]


def _cache(module: Any, model: nn.Module, adapters: list[str]) -> StateCache:
    header = {
        "method": type(module).__name__,
        "base": base_hash(model),
        "adapters": adapters_hash(model, adapters),
        "layers": module.layers,
        "prompts": repr((module.target_init, getattr(module, "prompts", None))),
        "dtype": module.backbone.dtype,
    }
    rank = 0 if module._trainer is None else module.global_rank
    if module._trainer is not None and getattr(module.trainer.datamodule, "streaming", False):
        module.trainer.datamodule.refuse_stream("model.reading.cache disk, which keeps the states of every row,")
    return StateCache(Path(module.reading.cache_folder), header, rank)


def alignment_loss(module: Any, batch: CandidateBatch, totals: StepTotals) -> Tensor:
    """Return the alignment loss of a batch and record what it shows."""
    check_sizes(batch)
    found = align_states(module, batch)
    if not (module.warned or batch.padding):
        warn_once(module, found)
        module.warned = True
    record_alignment(module, found)
    record_divergence(module, batch)
    if module._phase == "train":
        module.profile.add(found, module.objective.alpha)
    return reduced(module, found, batch, totals)


@dataclass(frozen=True)
class DualPrompts:
    """Under which prompts the good and the bad model, and the policy, read responses."""

    dual_instruction: Literal["same", "contrast"] = "same"
    """`same`: both read the policy's prompt, so that only weights differ (the released code, with the good instruction
    for all); `contrast`: each reads its own instruction (the paper)."""
    orig_instruction: Literal["none", "positive"] = "none"
    """Prompt of the policy; the released code trains under the good instruction and generates without it."""
    texts: Instructions = field(default_factory=Instructions)
    """The instructions, where one is used."""

    @property
    def used(self) -> Instructions | None:
        """Return the instructions, or None when every prompt is plain."""
        plain = self.dual_instruction == "same" and self.orig_instruction == "none"
        return None if plain else self.texts
