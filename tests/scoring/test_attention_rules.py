"""Windows, soft caps and sinks in a packed row, by dense parts and by FlexAttention, against a dense mask in float64."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from align.scoring import flex_rows
from align.scoring.attention_rule import PLAIN_RULE, AttentionRule
from align.scoring.block_masks import BLOCK, blocks_of
from align.scoring.placement import BatchLengths, Placement, packed
from tests.scoring.test_packed_row import CASES, both, inputs, may_attend, off, row_of

SINKS = torch.linspace(-2, 3, 6, dtype=torch.float64)
RULES = {
    "window": AttentionRule(window=7),
    "cap": AttentionRule(softcap=1.5),
    "sinks": AttentionRule(sinks=SINKS),
    "all": AttentionRule(4, 0.9, SINKS),
}
WIDE = BatchLengths((300, 1, 140), (200, 129, 60, 1, 90, 7), (0, 0, 2, 2, 1, 2))
"""Rows of several blocks."""


def positions_of(lengths: BatchLengths, placed: Placement) -> Tensor:
    return torch.from_numpy(placed.positions[0])


def by_mask(values: list[Tensor], mask: Tensor, positions: Tensor, rule: AttentionRule) -> Tensor:
    """Write all scores out: the formulas of Gemma 2 and gpt-oss on one dense mask."""
    q, k, v = values[:3]
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    if rule.window is not None:
        mask = mask & (positions[:, None] - positions < rule.window)
    scores = q @ k.transpose(2, 3) * 0.3
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    weights = scores.masked_fill(~mask, -torch.inf).exp()
    total = weights.sum(-1, keepdim=True)
    if rule.sinks is not None:
        total = total + values[3].exp()[:, None, None]
    return (weights / total @ v).transpose(1, 2)


def compared(lengths: BatchLengths, heads: tuple[int, int], rule: AttentionRule, *, flex: bool, dtype: Any) -> Any:
    """Return how far ours and the dense mask are from the dense mask in float64, values and all gradients."""
    placed = packed(lengths)
    values = inputs(placed.order.size, heads)
    if rule.sinks is not None:
        values.append(rule.sinks[: heads[0]].clone().requires_grad_())
    mask, positions = may_attend(lengths, placed), positions_of(lengths, placed)

    def ours(given: list[Tensor]) -> Tensor:
        own = rule if rule.sinks is None else rule._replace(sinks=given[3])
        return row_of(placed).attend(*given[:3], scale=0.3, rule=own, flex=flex)

    def dense(given: list[Tensor]) -> Tensor:
        return by_mask(given, mask, positions, rule)

    wanted = both(dense, values)
    narrow = [part.detach().to(dtype).requires_grad_() for part in values]
    return off(both(ours, narrow), wanted), off(both(dense, narrow), wanted)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
@pytest.mark.parametrize("case", CASES)
def test_dense_parts_are_a_dense_mask(case: str, heads: tuple[int, int], rule: str) -> None:
    assert compared(CASES[case], heads, RULES[rule], flex=False, dtype=torch.float64)[0] < 1e-12


FLEXED = [
    ("sixteen", (6, 2), RULES["all"]),
    ("mixed, an empty prompt", (4, 1), RULES["sinks"]),
    ("pairs", (4, 4), PLAIN_RULE),
]


@pytest.mark.parametrize(("case", "heads", "rule"), FLEXED, ids=[case[0] for case in FLEXED])
def test_flex_attention_is_a_dense_mask(case: str, heads: tuple[int, int], rule: AttentionRule) -> None:
    assert compared(CASES[case], heads, rule, flex=True, dtype=torch.float64)[0] < 1e-12


@pytest.mark.parametrize("flex", [False, True])
def test_in_float32_both_are_as_good_as_the_dense_mask(flex: bool) -> None:
    ours, dense = compared(CASES["pairs"], (4, 2), RULES["all"], flex=flex, dtype=torch.float32)
    assert ours < max(2 * dense, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [PLAIN_RULE, *RULES.values()], ids=["plain", *RULES])
@pytest.mark.parametrize("case", [*CASES, "wide"])
def test_flex_attention_everywhere(case: str, rule: AttentionRule) -> None:
    """Every case under every rule, rows of several blocks among them."""
    lengths = WIDE if case == "wide" else CASES[case]
    assert compared(lengths, (4, 2), rule, flex=True, dtype=torch.float64)[0] < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["window", "cap", "plain"])
@pytest.mark.parametrize("case", ["pairs", "wide"])
def test_compiled_flex_attention_looks_at_the_right_blocks(
    case: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward: compiled for a CPU there is no backward pass, and no log-sum-exp. What is compiled skips blocks."""
    lengths = WIDE if case == "wide" else CASES[case]
    own = RULES.get(rule, PLAIN_RULE)._replace(window=150 if rule == "window" else None)
    placed = packed(lengths)
    values = [part.detach().float() for part in inputs(placed.order.size, (4, 2), 32)]
    compiled = torch.compile(flex_rows.flex.flex_attention, dynamic=False)
    monkeypatch.setattr(flex_rows, "_kernel", lambda _: compiled)
    with torch.no_grad():
        found = row_of(placed).attend(*values, scale=0.3, rule=own, flex=True)
        wanted = by_mask(values, may_attend(lengths, placed), positions_of(lengths, placed), own)
    assert off([found], [wanted]) < 1e-5


@pytest.mark.parametrize("window", [None, 2, 130, 250])
def test_blocks_are_those_of_a_dense_mask(window: int | None) -> None:
    placed = packed(WIDE)
    mask, positions = may_attend(WIDE, placed), positions_of(WIDE, placed)
    if window is not None:
        mask = mask & (positions[:, None] - positions < window)
    count = -(-len(mask) // BLOCK)
    grid = torch.zeros(count * BLOCK, count * BLOCK, dtype=torch.bool)
    grid[: len(mask), : len(mask)] = mask
    tiles = grid.view(count, BLOCK, count, BLOCK)
    found = blocks_of(placed.bounds, window)
    needed, whole = tiles.any(3).any(1).numpy(), tiles.all(3).all(1).numpy()
    assert not (needed & ~found.some).any()
    assert np.array_equal(found.whole, whole)
    if window is None:
        assert np.array_equal(found.some, needed)
    else:  # a block may hold the ends of two parts, of which one is inside
        assert found.some.sum() <= needed.sum() + 4


def fault(dtype: torch.dtype = torch.float32, sinks: bool = True) -> str | None:
    flex_rows._fault.cache_clear()
    return flex_rows._fault(torch.device("cpu"), dtype, ((4, 8), (2, 8), (2, 8)), 2.0, sinks)


def test_a_right_kernel_serves() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fault() is None


def test_what_does_not_compile_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of resource: shared memory, Required: 270336")

    monkeypatch.setattr(flex_rows, "_kernel", lambda _: fails)
    told = r"part by part.*does not serve heads of 8 in torch.float32 on cpu \(RuntimeError: out of resource: shared"
    with pytest.warns(UserWarning, match=told):
        assert fault() is not None


def test_a_kernel_that_is_wrong_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    right = flex_rows.flex.flex_attention

    def uncapped(*given: Any, score_mod: Any, **options: Any) -> Any:
        return right(*given, **options)

    monkeypatch.setattr(flex_rows, "_kernel", lambda _: uncapped)
    with pytest.warns(UserWarning, match="off by"):
        assert fault() is not None
