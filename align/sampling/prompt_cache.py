"""Keys and values while decoding: prompts are computed once, and kept once where the attention allows it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionLayer

from align.sampling.padding import padding_sees_something
from align.scoring.decoder import can_share, decoder, unwrapped
from align.scoring.packed_names import PLAIN_NAMES, attention_window
from align.scoring.packed_row import carrying


class PromptCache(Protocol):
    """Decodes rows that go on from prompts."""

    def step(self, tokens: Int[Tensor, " row"], position_ids: Int[Tensor, " row"]) -> dict[str, Any]:
        """Return the model's inputs for one more token of every row."""

    def keep(self, places: Int[Tensor, " row"]) -> None:
        """Go on with these rows only."""


class OwnTokens(DynamicLayer):  # type: ignore[misc]
    """The tokens of every row of one layer, written in place into room that doubles when it is full."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all tokens so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room = torch.stack([key_states, value_states])
            self.used = 0
        end = self.used + key_states.shape[2]
        if end > self.room.shape[3]:
            more = self.room.new_empty(*self.room.shape[:3], max(end, 16), self.room.shape[4])
            self.room = torch.cat([self.room, more], 3)
        self.room[0, :, :, self.used : end] = key_states
        self.room[1, :, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = self.room[:, :, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows only; before the first token there is nothing to keep."""
        if self.is_initialized:
            self.room = self.room[:, indices]
            self.keys, self.values = self.room[:, :, :, : self.used]


class SharedPrompts:
    """Prompts stay as they were computed; every row keeps its own tokens only, and attends to both."""

    def __init__(self, prompts: DynamicCache, mask: Tensor, owners: Int[Tensor, " row"]) -> None:
        self.prompts, self.mask, self.owners = prompts, mask[:, None, None, :].bool(), owners
        self.own = Cache(layers=[OwnTokens() for _ in prompts.layers])
        self._lay_out()

    def step(self, tokens: Int[Tensor, " row"], position_ids: Int[Tensor, " row"]) -> dict[str, Any]:
        """Return the model's inputs; the mask brings the prompts to our attention, which reads nothing else of it."""
        mask = carrying(torch.ones(1, 1, 1, 1, dtype=torch.bool, device=tokens.device), self)
        fed = {"input_ids": tokens[:, None], "position_ids": position_ids[:, None], "attention_mask": mask}
        return {**fed, "past_key_values": self.own}

    def keep(self, places: Int[Tensor, " row"]) -> None:
        """Drop the tokens of the other rows; prompts stay until the batch is done."""
        for layer in self.own.layers:
            layer.batch_select_indices(places)
        self.owners = self.owners[places]
        self._lay_out()

    def _lay_out(self) -> None:
        """Give every row a cell of the grid `[prompt, slot]`, in which a prompt meets all its rows at once."""
        counts = torch.bincount(self.owners, minlength=self.mask.shape[0])
        starts = counts.cumsum(0) - counts
        slots = torch.arange(len(self.owners), device=self.owners.device) - starts[self.owners]
        self.slots = int(counts.max())
        self.cells = self.owners * self.slots + slots
        self.full = bool((counts == self.slots).all())

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "row head 1 width"],
        key: Float[Tensor, "row keyhead own width"],
        value: Float[Tensor, "row keyhead own width"],
        scale: float | None,
    ) -> Float[Tensor, "row 1 head width"]:
        """Attend to the prompt and to the row's own tokens in one softmax, taken in float32."""
        rows, heads, _, width = query.shape
        keyheads = key.shape[1]
        grouped = query.reshape(rows, keyheads, heads // keyheads, width) * (width**-0.5 if scale is None else scale)
        held = self.prompts.layers[layer]
        there = self._to_grid(grouped) @ held.keys.transpose(2, 3)
        there = there.float().masked_fill(~self.mask, float("-inf"))
        scores = torch.cat([self._from_grid(there, keyheads), (grouped @ key.transpose(2, 3)).float()], 3)
        shares = scores.softmax(-1).to(value.dtype)
        length = held.keys.shape[2]
        output = self._from_grid(self._to_grid(shares[..., :length]) @ held.values, keyheads)
        output = output + shares[..., length:] @ value
        return output.reshape(rows, 1, heads, width)

    def _to_grid(self, values: Tensor) -> Tensor:
        """Return `[row, keyhead, repeat, x]` as `[prompt, keyhead, slot x repeat, x]`."""
        _, keyheads, repeats, width = values.shape
        cells = self.mask.shape[0] * self.slots
        grid = (
            values if self.full else values.new_zeros(cells, keyheads, repeats, width).index_copy(0, self.cells, values)
        )
        grid = grid.view(-1, self.slots, keyheads, repeats, width).transpose(1, 2)
        return grid.reshape(len(grid), keyheads, self.slots * repeats, width)

    def _from_grid(self, grid: Tensor, keyheads: int) -> Tensor:
        """Undo `_to_grid`."""
        repeats = grid.shape[2] // self.slots
        cells = grid.view(len(grid), keyheads, self.slots, repeats, -1).transpose(1, 2).flatten(0, 1)
        return cells if self.full else cells[self.cells]


class RepeatedPrompts:
    """Every row has a copy of its prompt: for models whose attention is not ours."""

    def __init__(self, prompts: DynamicCache, mask: Tensor, owners: Int[Tensor, " row"], positions: bool) -> None:
        prompts.batch_select_indices(owners)
        self.cache, self.mask, self.positions = prompts, mask[owners], positions

    def step(self, tokens: Int[Tensor, " row"], position_ids: Int[Tensor, " row"]) -> dict[str, Any]:
        """Return the model's inputs."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        fed = {"input_ids": tokens[:, None], "attention_mask": self.mask, "past_key_values": self.cache}
        return {**fed, "position_ids": position_ids[:, None]} if self.positions else fed

    def keep(self, places: Int[Tensor, " row"]) -> None:
        """Drop the other rows."""
        self.cache.batch_select_indices(places)
        self.mask = self.mask[places]


def prefill(
    model: nn.Module, prompts: Sequence[Sequence[int]], owners: Int[Tensor, " row"]
) -> tuple[Float[Tensor, "prompt vocab"], PromptCache]:
    """Compute every prompt once; return the logits after each, and the cache from which the rows of `owners` go on.

    Raises NotImplementedError for a model whose layers keep something else than keys and values.
    """
    width, device = max(map(len, prompts)), owners.device
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    inner = decoder(model)
    cache = DynamicCache(config=inner.config)
    positions = "position_ids" in inspect.signature(inner.forward).parameters
    fed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
    if positions:
        fed["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    with padding_sees_something():
        logits = last_logits(model, fed)
    kinds = {type(layer).__name__ for layer in cache.layers if isinstance(layer, LinearAttentionLayer)}
    if kinds:
        raise NotImplementedError(f"no cache of ours holds layers of kind {', '.join(sorted(kinds))}")
    if _can_share(inner, cache):
        return logits, SharedPrompts(cache, mask, owners)
    return logits, RepeatedPrompts(cache, mask, owners, positions)


def _can_share(inner: Any, cache: DynamicCache) -> bool:
    """Tell whether a decoder attends through our function, to all that is before, with keys of its own per layer.

    A cache that holds something smaller, from which keys and values are made, cannot be attended to as it is.
    """
    ours = (
        PLAIN_NAMES.get(inner.config._attn_implementation) == "sdpa"
        and can_share(inner)
        and getattr(inner, "packs", True)
    )
    own_keys = len(cache.layers) == inner.config.get_text_config().num_hidden_layers
    whole = all(layer.keys.shape == layer.values.shape for layer in cache.layers)
    return bool(ours and own_keys and whole and attention_window(inner.config) == float("inf"))


def last_logits(model: nn.Module, fed: dict[str, Any]) -> Float[Tensor, "row vocab"]:
    """Return the logits after the last token of every row; no others are computed where the model allows that."""
    if "logits_to_keep" in inspect.signature(unwrapped(model).forward).parameters:
        fed = {**fed, "logits_to_keep": 1}
    logits: Tensor = model(**fed, use_cache=True).logits
    return logits[:, -1]
