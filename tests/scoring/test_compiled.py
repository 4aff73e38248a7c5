"""A compiled decoder: the same numbers, and few graphs whatever the lengths."""

from functools import partial
from typing import Any

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.scoring import score_responses
from align.scoring.decoder import COMPILES, decoder
from tests.tiny import random_batch, tiny_model

SLOW = [pytest.param(layout, marks=pytest.mark.slow) for layout in ("shared", "padded")]


@pytest.mark.parametrize("layout", ["packed", *SLOW])
def test_eight_shapes_take_two_graphs_at_most(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def counted(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = tiny_model("llama", torch.float64).train()
    use_packed_attention(model)
    batches = [random_batch([1 + n % 3, 2, 2 + n][: 1 + n % 3], seed=n) for n in range(8)]
    wanted = [score_responses(model, batch, layout=layout).logprobs.detach() for batch in batches]
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counted, fullgraph=True))
    setattr(decoder(model), COMPILES, True)
    for batch, right in zip(batches, wanted, strict=True):
        found = score_responses(model, batch, layout=layout).logprobs
        found.sum().backward()
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)
    assert 1 <= len(graphs) <= 2
