"""The other side of the comparison: a model as transformers runs it, one candidate at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from align.records import CandidateBatch
from align.scoring.decoder import unwrapped
from align.scoring.packed_names import PLAIN_NAMES
from align.scoring.rotary import forget_lengths


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """Run with the attention the model would have had without us."""
    inner = unwrapped(model)
    named = inner.config._attn_implementation
    ours = named in PLAIN_NAMES
    if ours:
        inner.set_attn_implementation(PLAIN_NAMES[named])
    try:
        yield
    finally:
        if ours:
            inner.set_attn_implementation(named)


def plain_logprobs(
    model: nn.Module, batch: CandidateBatch, *, padded: bool = False, score_prompts: bool = False
) -> Float[Tensor, " token"]:
    """Return the log-probability of every scored response token, of `model(input_ids=...)`.

    Args:
        model: A causal language model of transformers, or one inside PEFT.
        batch: The candidates.
        padded: Run all in one padded batch instead: what differs then is the model's own rounding.
        score_prompts: Return those of prompt tokens after the first too.
    """
    parts = []
    device, weights = batch.response_ids.device, batch.response_weights
    scored = torch.ones_like(batch.response_ids) if weights is None else torch.from_numpy(weights).to(device)
    masks = torch.split(scored > 0, list(batch.response_lengths))
    for c, (ids, logits) in enumerate(runs(model, batch, padded)):
        wide = torch.promote_types(logits.dtype, torch.float32)
        logprobs = logits[:-1].to(wide).log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        prompt, response = logprobs[: -len(masks[c])], logprobs[-len(masks[c]) :]
        parts += [prompt, response[masks[c]]] if score_prompts else [response[masks[c]]]
    return torch.cat(parts)


def plain_rewards(model: nn.Module, batch: CandidateBatch, *, padded: bool = False) -> Float[Tensor, " output"]:
    """Return the outputs of a sequence classifier of transformers, candidate after candidate."""
    head = unwrapped(model).score

    def as_the_head_is(_: nn.Module, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (states[0].to(head.weight.dtype), *states[1:])

    cast = head.register_forward_pre_hook(as_the_head_is)  # a head in float32 may stand on a base in 16 bits
    try:
        outputs = torch.cat([logits.flatten() for _, logits in runs(model, batch, padded)])
    finally:
        cast.remove()
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def sequences(batch: CandidateBatch) -> list[Tensor]:
    """Return prompt and response of every candidate as one row of ids."""
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    return [torch.cat([prompts[p], response]) for p, response in zip(batch.prompt_of, responses, strict=True)]


def plain_logits(
    model: Any, ids: Int[Tensor, "row position"], mask: Int[Tensor, "row position"] | None = None
) -> Tensor:
    """Return the logits of rows as transformers computes them; rotary angles keep nothing of longer rows before."""
    inner = unwrapped(model)
    forget_lengths(inner, inner.config)
    given = {} if mask is None else {"attention_mask": mask}
    logits: Tensor = model(input_ids=ids, use_cache=False, **given).logits
    return logits


def runs(model: Any, batch: CandidateBatch, padded: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the ids of every candidate and the model's logits, of its tokens only."""
    rows = sequences(batch)
    with plain_attention(model):
        if not padded:
            for ids in rows:
                yield ids, plain_logits(model, ids[None])[0]
            return
        fill = unwrapped(model).config.get_text_config().pad_token_id or 0
        table = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
        lengths = torch.tensor([len(ids) for ids in rows], device=table.device)
        mask = (torch.arange(table.shape[1], device=table.device) < lengths[:, None]).long()
        logits = plain_logits(model, table, mask)
        for ids, own in zip(rows, logits, strict=True):
            yield ids, own[: len(ids)]
