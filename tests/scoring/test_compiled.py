"""A compiled decoder: the same numbers, and few graphs whatever the lengths."""

from functools import partial
from typing import Any

import pytest
import torch

from align.models.packed_attention import use_packed_attention
from align.scoring import score_responses
from align.scoring.decoder import COMPILES, decoder
from tests.formulas.logprobs import plain_logprobs
from tests.models.test_packed_attention import loss_and_gradient
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


@pytest.mark.slow
@pytest.mark.parametrize("named", ["auto", "flex_attention"])
def test_attention_by_rules_is_compiled_around_and_not_again(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients are those of plain forward passes; numbers and lengths of candidates compile nothing."""
    model = tiny_model("mistral", torch.float64, sliding_window=6, num_hidden_layers=1).train()
    batches = [random_batch([2, 3, 1][: 1 + n % 3], seed=n, longest=40) for n in range(4)]
    wanted = [loss_and_gradient(model, plain_logprobs(model, batch)) for batch in batches]
    if named != "auto":
        model.set_attn_implementation(named)
    use_packed_attention(model, named)
    graphs: list[Any] = []

    def counted(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counted))
    setattr(decoder(model), COMPILES, True)
    counts = []
    for batch, (logprobs, gradient) in zip(batches, wanted, strict=True):
        found, own = loss_and_gradient(model, score_responses(model, batch, layout="packed").logprobs)
        torch.testing.assert_close(found, logprobs, rtol=1e-12, atol=1e-12)
        assert float((own - gradient).norm() / gradient.norm()) < 1e-6  # norms of transformers compute in float32
        counts.append(len(graphs))
    assert 1 <= counts[0] <= 12
    assert counts[0] == counts[-1]
