"""What `align check` computes of a model and its first step, each against something that must agree."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from align.data.data_module import PreferenceDataModule
from align.errors import DataError, ModelError
from align.sampling.checked import LocalEngine
from align.training.base_module import AlignModule
from align.training.self_check import check_layouts


def passes_told(module: AlignModule, data: PreferenceDataModule) -> Iterator[str]:
    """Yield what was compared. Raises an AlignError where it does not agree."""
    step = next(iter(data.train_dataloader()))
    yield _check_bos(module, data)
    yield _check_eos(data)
    yield f"self-check: {check_layouts(module, data.groups['train'], gradients=True)}"
    if module.generates:
        yield f"sampling: {LocalEngine(module.model, module.tokenizer, []).check(data.prompts(64))}"
    drawn = data.view is not None and data.view.drawn_in_rounds
    if why := module.lacks_for_loss(drawn_in_rounds=drawn):
        yield f"no loss before {why}"
        return
    with torch.no_grad():
        module.begin_step(step)
        loss = sum(float(module.loss(batch, step.totals)) for batch in step)
        module.end_step()
    if not math.isfinite(loss):
        raise ModelError(f"the loss of the first step is {loss}: check the weights' dtype")
    yield f"loss of the first step: {loss:.6f}"


def _check_bos(module: AlignModule, data: PreferenceDataModule) -> str:
    bos = module.tokenizer.bos_token_id
    rows = data.groups["train"][range(min(100, len(data.groups["train"])))]
    if bos is not None and any(row.prompt_ids[:2] == [bos, bos] for row in rows):
        raise ModelError("prompts begin with two BOS tokens: the chat template and the tokenizer both add one")
    return f"at most one BOS in {len(rows)} prompts"


def _check_eos(data: PreferenceDataModule) -> str:
    eos = data.prompt_format.eos_id
    rows = data.groups["train"][range(min(100, len(data.groups["train"])))]
    for row in rows:
        for ids, truncated in zip(row.response_ids, row.truncated, strict=True):
            if (ids[-1] == eos) == truncated:
                raise DataError(f"row {row.id}: a response must end in EOS exactly when it is not truncated")
    return f"one scored EOS at the end of every whole response of {len(rows)} rows"
