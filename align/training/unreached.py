"""Parameters that no row reaches, for whose gradients DDP would wait: indexers, biases that choose experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from align.checks.plain import plain_attention
from align.distributed import on_first
from align.models.adapters import evaluating, has_adapters
from align.scoring.decoder import decoder

FIND, STATIC = "find_unused_parameters", "static_graph"
TOKENS = 8
"""What takes part in longer rows alone is taken for unreached: to look for it is right, too."""


def wait_for_reached(strategy: Any, models: Sequence[nn.Module]) -> None:
    """Have DDP wait for the parameters that a step reaches alone, where models have others and no setting says how.

    DDP would end at the second step otherwise; to look costs a walk over the graph in every step. Adapters are all
    reached: none is put where it would not move.
    """
    if not isinstance(strategy, DDPStrategy) or {FIND, STATIC} & strategy._ddp_kwargs.keys():
        return
    names = on_first(lambda: [name for model in models if not has_adapters(model) for name in unreached(model)])
    if names:
        strategy._ddp_kwargs[FIND] = True
        rank_zero_info(f"ddp: {len(names)} tensors take no part in a loss and stay as they are, such as {names[0]}")


def unreached(model: nn.Module) -> list[str]:
    """Return the names of a decoder's trained parameters that a short row does not reach, by the graph alone."""
    body = decoder(model)
    trained = {id(p): name for name, p in body.named_parameters() if p.requires_grad}
    if not trained:
        return []
    row = torch.arange(1, 1 + TOKENS, device=next(body.parameters()).device)[None]
    with torch.enable_grad(), evaluating(model), plain_attention(model):
        reached = _leaves(body(input_ids=row, use_cache=False)[0])
    return [name for place, name in trained.items() if place not in reached]


def _leaves(output: Tensor) -> set[int]:
    """Return the ids of the parameters under a tensor."""
    seen: set[Any] = set()
    left, found = [output.grad_fn], set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found.add(id(getattr(node, "variable", None)))
            left += [before for before, _ in node.next_functions]
    return found
