"""Attention over a packed row by FlexAttention: windows, soft caps and sinks in one kernel, and no dense mask.

Compiled on a GPU. On a CPU it runs uncompiled, which writes all scores out: for comparison, not for speed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.utils._python_dispatch import _disable_current_modes

from align.errors import shorten
from align.scoring.attention_rule import AttentionRule
from align.scoring.block_masks import block_mask
from align.scoring.placement import Bounds
from align.scoring.segment_attention import segment_attention
from align.transfer import tensor_on

TRIED = Bounds((0, 150), (0, 130), (0, 70, 130, 220))
"""A small row of several blocks: a prompt, two responses of it, a row of its own."""
AGREE = {torch.float64: 1e-6, torch.float32: 1e-2, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""How far outputs and gradients of a right kernel may be off, relatively; TF32 may multiply float32."""


def flex_attend(  # noqa: PLR0917
    query: Float[Tensor, "1 head position width"],
    key: Float[Tensor, "1 keyhead position width"],
    value: Float[Tensor, "1 keyhead position own"],
    bounds: Bounds,
    rule: AttentionRule,
    scale: float,
) -> Float[Tensor, "1 head position own"]:
    """Return the attention of every position.

    A sink takes its share of each softmax: outputs are multiplied by sigmoid(lse - sink), lse being the log-sum-exp of
    the scores.
    """
    groups = query.shape[1] // key.shape[1]
    if groups & (groups - 1):  # kernels group heads by powers of two
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    options: dict[str, Any] = {"scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    options["score_mod"] = None if rule.softcap is None else _capped(rule.softcap, query.device, query.dtype)
    options["block_mask"] = block_mask(bounds, rule.window, query.device)
    with _backward_on_cpus(query.device):
        if rule.sinks is None:
            output: Tensor = _kernel(query.device.type)(query, key, value, **options)
            return output
        aux = flex.AuxRequest(lse=True)
        output, found = _kernel(query.device.type)(query, key, value, **options, return_aux=aux)
    share = torch.sigmoid(found.lse - rule.sinks[None, :, None].to(found.lse.dtype))
    return (output * share[..., None]).to(output.dtype)


@lru_cache
def _capped(softcap: float, device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor]:
    """Return the soft cap as FlexAttention takes it; a number of Python's would be compiled as one that may change."""
    cap = tensor_on(device, softcap, torch.promote_types(dtype, torch.float32))

    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return capped


@lru_cache
def _kernel(device: str) -> Callable[..., Any]:
    plain: Callable[..., Any] = flex.flex_attention
    return plain if device == "cpu" else torch.compile(plain, dynamic=True)


@contextmanager
def _backward_on_cpus(device: torch.device) -> Iterator[None]:
    """Let the uncompiled form go backward on a CPU, which torch refuses by a check and nothing else."""
    if device.type != "cpu":
        yield
        return
    with patch.object(flex, "_validate_device", lambda *_: None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        yield


def flex_serves(query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> bool:
    """Tell whether FlexAttention is right for these heads here; once it is not, why not is told in one line."""
    shapes = ((query.shape[1], query.shape[3]), (key.shape[1], key.shape[3]), (value.shape[1], value.shape[3]))
    if query.device.type == "cpu":
        return True
    why = _fault(query.device, query.dtype, shapes, rule.softcap, rule.sinks is not None)
    return why is None


@lru_cache
def _fault(
    device: torch.device, dtype: torch.dtype, shapes: tuple[tuple[int, int], ...], softcap: float | None, sinks: bool
) -> str | None:
    """Return what is wrong with the kernels: they are run on a small row, forward and backward, beside dense parts."""
    try:
        with _disable_current_modes(), torch.inference_mode(False), torch.enable_grad():
            off = _off(device, dtype, shapes, softcap, sinks)
        why = None if off < AGREE[dtype] else f"off by {off:.1e}"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever compilers and launchers raise
        why = f"{type(error).__name__}: {shorten(error, 120)}"
    if why is not None:
        warnings.warn(
            f"attention over packed rows runs part by part, which is slow: FlexAttention does not serve heads of "
            f"{shapes[0][1]} in {dtype} on {device} ({why})",
            stacklevel=2,
        )
    return why


def _off(
    device: torch.device, dtype: torch.dtype, shapes: tuple[tuple[int, int], ...], softcap: float | None, sinks: bool
) -> float:
    """Return the worst relative difference of outputs and gradients, over a rule with a window and one without."""
    size = TRIED.prompts[-1] + TRIED.rows[-1]
    made = [torch.arange(h * size * w, device=device).view(1, h, size, w) for h, w in shapes]
    q, k, v = ((n * (0.7 + i)).sin().to(dtype).requires_grad_() for i, n in enumerate(part.double() for part in made))
    sink = torch.linspace(-1, 1, shapes[0][0], device=device, dtype=dtype).requires_grad_() if sinks else None
    worst = 0.0
    for window in (None, 40):
        rule = AttentionRule(window, softcap, sink)
        inputs = [part for part in (q, k, v, sink) if part is not None]
        ours = flex_attend(q, k, v, TRIED, rule, 0.3)
        parts = segment_attention(q, k, v, TRIED, rule, scale=0.3)
        weights = parts.detach().cos()
        found = [ours, *torch.autograd.grad(ours, inputs, weights)]
        wanted = [parts, *torch.autograd.grad(parts, inputs, weights)]
        pairs = zip(found, wanted, strict=True)
        worst = max([worst, *(_relative(a, b) for a, b in pairs)])
    return worst


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach() - wanted.detach()).double().norm() / wanted.detach().double().norm())
