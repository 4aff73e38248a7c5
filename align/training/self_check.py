"""The self-check of a run: its layouts before anything is scored, its reference at the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from transformers import PreTrainedModel

from align.checks.checked_rows import Groups, rows_to_check, tokens_to_check
from align.checks.differences import Computed, compare
from align.checks.frozen_states import states_under
from align.checks.layout_check import (
    ALL_LOGPROBS,
    LOGPROBS,
    REWARDS,
    LayoutCheck,
    LayoutVerdict,
    Scoring,
    refuse_layouts,
)
from align.checks.tolerance import tolerance_of
from align.errors import ModelError
from align.models.adapters import evaluating
from align.records import CandidateBatch, ResponseScores
from align.scoring.decoder import choose_layout

if TYPE_CHECKING:
    from align.training.base_module import AlignModule
    from align.training.reference_policy import ReferencedModule

OFF = "switched off"


def check_layouts(module: AlignModule, groups: Groups, *, gradients: bool) -> str:
    """Find the layouts of a module that agree with plain forward passes, refuse the others, and say what was found.

    Says nothing where the groups have no responses, as before the first of several rounds.
    Raises ModelError where none agrees, or where the one that was asked for does not.
    """
    if not module.backbone.check:
        return OFF
    rows = rows_to_check(groups, tokens_to_check(module.model, module.backbone.logit_bytes))
    if not rows:
        return ""
    batches = [CandidateBatch.of(rows), CandidateBatch.of(rows[:1])]
    verdicts: list[LayoutVerdict] = []
    with isolate_rng(), _as_in_training(module, gradients):
        check = LayoutCheck(module.model, _scoring(module), gradients=gradients, everywhere=True)
        batches = move_data_to_device(batches, next(module.model.parameters()).device)
        for batch in batches:
            chosen = choose_layout(module.model, batch, module.backbone.layout)
            if chosen not in [verdict.layout for verdict in verdicts]:
                verdicts.append(check(batch, module.backbone.layout))
                _refuse(module, verdicts[-1])
        told = [*map(str, verdicts), *_check_states(module, batches)]
    return f"{'; '.join(told)} against plain forward passes of transformers"


def _check_states(module: AlignModule, batches: Sequence[CandidateBatch]) -> Iterator[str]:
    """Compare the states that a module reads of its base and its frozen adapters, and say what was found of each."""
    sets, layers = module.states_to_check()
    for adapters in dict.fromkeys(map(tuple, sets)):
        scoring, layouts = states_under(adapters, layers), set[str]()
        with torch.no_grad(), evaluating(module.model):
            check = LayoutCheck(module.model, scoring, gradients=False, everywhere=True)
            for batch in batches:
                if choose_layout(module.model, batch, module.backbone.layout) not in layouts:
                    verdict = check(batch, module.backbone.layout)
                    _refuse(module, verdict)
                    layouts.add(verdict.layout)
                    yield f"{scoring.name} in {verdict.layout} rows off by {verdict.difference.values:.1e}"


def _scoring(module: AlignModule) -> Scoring:
    """Return what a module reads off its model."""
    if not module.generates:
        return REWARDS
    return ALL_LOGPROBS if module.scores_prompts else LOGPROBS


def _refuse(module: nn.Module, verdict: LayoutVerdict) -> None:
    if verdict.refused:
        rank_zero_warn(verdict.warning("this run"))
        refuse_layouts([part for part in module.modules() if isinstance(part, PreTrainedModel)], list(verdict.refused))


@contextmanager
def _as_in_training(module: AlignModule, gradients: bool) -> Iterator[None]:
    """Run in the mode and precision of a training step; dropout that was asked for is off."""
    precision = module.trainer.precision_plugin.forward_context() if module.attached else nullcontext()
    with (
        torch.set_grad_enabled(gradients),
        precision,
        evaluating(module.model) if _drops(module) else nullcontext(),
    ):
        yield


def _drops(module: AlignModule) -> bool:
    """Tell whether training draws random numbers because it was asked to."""
    return bool(module.backbone.dropout) or any(isinstance(m, nn.Dropout) and m.p > 0 for m in module.model.modules())


def start_checked(module: ReferencedModule, policy: ResponseScores, reference: ResponseScores) -> ResponseScores:
    """Return the reference's scores; at the very first batch, compare them with the policy's where both are the start.

    Every rank has to call it. Raises ModelError where they differ: the start loss is not that of equal policies then.
    """
    if module.start_checked or not module.attached or not module.trainer.training or module.phase != "train":
        return reference
    module.start_checked = True
    known = module.built_reference.is_start and module.global_step == 0 and module.trainer.ckpt_path is None
    if not (module.backbone.check and known) or _drops(module):
        return reference
    own, other = (Computed(scores.logprobs.detach().double(), []) for scores in (policy, reference))
    found = compare(own, other, least=1.0, everywhere=True)
    bound = tolerance_of(module.model).right
    if not math.isfinite(found.values):  # numbers that are not finite are the guard's, which names step and rows
        return reference
    if not found.within(bound):
        raise ModelError(
            "policy and reference differ at the first step, where they are the same model: log-probabilities by "
            f"{found.values:.1e} (relative; {bound.values:g} is rounding), so the loss does not start where it has to: "
            "check model.reference, and whether the model draws random numbers in training mode"
        )
    module.checked += f"; policy and reference start equal (differ by {found.values:.1e})"
    return reference
