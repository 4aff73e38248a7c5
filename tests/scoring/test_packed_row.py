"""Attention over a packed row, against a dense mask in float64."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from align.scoring import flash
from align.scoring.packed_row import PackedRow
from align.scoring.placement import BatchLengths, Placement, packed

CASES = {
    "pairs": BatchLengths((5, 40, 7), (3, 25, 31, 1, 90, 3), (0, 0, 1, 1, 2, 2)),
    "lists": BatchLengths((9, 4), (1, 12, 4, 7, 1, 6, 3, 3), (0, 0, 0, 0, 1, 1, 1, 1)),
    "sixteen": BatchLengths((11,), tuple(range(1, 17)), (0,) * 16),
    "rows": BatchLengths((4, 2, 3), (3, 1, 20), (0, 1, 2)),
    "mixed, an empty prompt": BatchLengths((6, 3, 0), (2, 3, 5, 4, 1), (0, 1, 0, 2, 2)),
}


def row_of(placed: Placement) -> PackedRow:
    assert placed.bounds is not None
    return PackedRow(placed.bounds, torch.tensor(sum(placed.bounds, ()), dtype=torch.int32))


def inputs(size: int, heads: tuple[int, int], width: int = 8) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(1, heads[0], size, width), *[(1, heads[1], size, width)] * 2]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def may_attend(lengths: BatchLengths, placed: Placement) -> Tensor:
    """Every candidate reads its prompt and itself: by the places of its tokens, as a loop over them."""
    mask = torch.eye(placed.order.size, dtype=torch.bool)
    for c, prompt in enumerate(lengths.prompt_of):
        own = lengths.prompts[prompt]
        starts = placed.prompt_starts[c], placed.response_starts[c]
        places = [*range(starts[0], starts[0] + own), *range(starts[1], starts[1] + lengths.responses[c])]
        for n, place in enumerate(places):
            mask[place, places[: n + 1]] = True
    return mask


def dense(values: list[Tensor], mask: Tensor, scale: float) -> Tensor:
    q, k, v = values
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], 1) for part in (k, v))
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def both(function: Any, values: list[Tensor]) -> list[Tensor]:
    output = function(values)
    weights = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [output, *torch.autograd.grad(output, values, weights.to(output.dtype))]


def off(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max(
        float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("case", CASES)
def test_it_is_a_dense_mask_forward_and_backward(
    case: str, heads: tuple[int, int], kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        monkeypatch.setattr(flash, "takes", lambda *_: False)
    placed = packed(CASES[case])
    values, mask = inputs(placed.order.size, heads), may_attend(CASES[case], placed)
    wanted = both(lambda given: dense(given, mask, 0.3), values)
    row = row_of(placed)
    assert off(both(lambda given: row.attend(*given, scale=0.3), values), wanted) < 1e-12
    assert row.asked == 1


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("case", CASES)
def test_narrower_numbers_round_once(case: str, dtype: torch.dtype, most: float) -> None:
    placed = packed(CASES[case])
    values, mask = inputs(placed.order.size, (4, 2)), may_attend(CASES[case], placed)
    narrow = [part.detach().to(dtype).requires_grad_() for part in values]
    wide = [part.detach().double().requires_grad_() for part in narrow]
    wanted = both(lambda given: dense(given, mask, 8**-0.5), wide)
    found = both(lambda given: row_of(placed).attend(*given), narrow)
    assert found[0].dtype == dtype
    assert off(found, wanted) < most


def test_the_gradient_is_that_of_finite_differences() -> None:
    placed = packed(BatchLengths((3, 2), (2, 1, 2), (0, 0, 1)))
    assert torch.autograd.gradcheck(lambda *given: row_of(placed).attend(*given), inputs(placed.order.size, (2, 1), 4))


def test_under_autocast_it_computes_in_its_dtype() -> None:
    placed = packed(CASES["pairs"])
    values = [part.detach().float() for part in inputs(placed.order.size, (2, 2))]
    with torch.autocast("cpu", torch.bfloat16):
        found = row_of(placed).attend(*values)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, row_of(placed).attend(*(part.bfloat16() for part in values)))


def test_dropout_goes_by_the_dense_parts() -> None:
    placed = packed(CASES["pairs"])
    torch.manual_seed(3)
    values = [part.detach() for part in inputs(placed.order.size, (2, 2))]
    found = torch.stack([row_of(placed).attend(*values, dropout_p=0.5) for _ in range(300)])
    wanted = row_of(placed).attend(*values)
    assert not torch.equal(found[0], found[1])
    assert float((found.mean(0) - wanted).abs().mean()) < 0.1 * float(wanted.abs().mean())


def test_a_slow_way_on_a_gpu_is_told_once() -> None:
    with pytest.warns(UserWarning, match=r"part by part: cuda has no flash kernel for torch.float32 and heads of 64"):
        flash.tell_slow("cuda", torch.float32, 64, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flash.tell_slow("cuda", torch.float32, 64, False)
        flash.tell_slow("cpu", torch.float32, 64, True)


def test_a_compiled_caller_has_one_graph_whatever_the_lengths() -> None:
    graphs: list[Any] = []

    def counted(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def attend(row: PackedRow, values: list[Tensor]) -> Tensor:
        return row.attend(*values) * 2

    torch._dynamo.reset()
    compiled = torch.compile(attend, backend=counted, fullgraph=True, dynamic=True)
    for lengths in CASES.values():
        placed = packed(lengths)
        values = inputs(placed.order.size, (4, 2))
        found = both(lambda given, placed=placed: compiled(row_of(placed), given), values)
        wanted = both(lambda given, placed=placed: attend(row_of(placed), given), values)
        assert off(found, wanted) == 0
    assert len(graphs) <= 2


@pytest.mark.parametrize("widths", [(12, 8), (8, 12), (5, 5)])
def test_values_may_have_heads_of_another_width(widths: tuple[int, int]) -> None:
    placed = packed(CASES["pairs"])
    mask, size = may_attend(CASES["pairs"], placed), placed.order.size
    torch.manual_seed(0)
    shapes = [(1, 4, size, widths[0]), (1, 2, size, widths[0]), (1, 2, size, widths[1])]
    values = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    wanted = both(lambda given: dense(given, mask, 0.3), values)
    assert off(both(lambda given: row_of(placed).attend(*given, scale=0.3), values), wanted) < 1e-12
