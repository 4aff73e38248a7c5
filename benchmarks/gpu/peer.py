"""The peer: TRL's padding-free step re-made, every candidate a row of its own that holds its prompt again.

Rows lie one after another without padding under variable-length flash attention, as transformers runs them with
`flash_attention_2`. It is given what helps it: rows of similar length together, a budget of tokens as ours, the head at
response tokens only and in chunks, batches that are laid out before the clock starts, no trainer around it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM

from align.data.batching import Batching
from align.records import EncodedGroup
from benchmarks.gpu.flash_rows import Ends, register
from benchmarks.gpu.known_lengths import KnownLengths
from benchmarks.gpu.peer_losses import Loss, pair_loss
from benchmarks.gpu.shapes import Shape
from benchmarks.gpu.step_meter import Stopwatch, peak_gib, restart_peak
from benchmarks.gpu.training import mfu
from benchmarks.meter import Work

CHUNK = 2048
"""Tokens whose logits are in memory at once."""


class Rows(NamedTuple):
    """A micro-batch: whole groups, one row per candidate."""

    ids: Tensor
    positions: Tensor
    lengths: list[int]
    predictors: Tensor
    targets: Tensor
    owners: Tensor
    """Candidate of each scored token."""
    sizes: Tensor
    """Scored tokens of each candidate."""
    share: float
    """Share of the step's groups."""


def rows_of(groups: list[EncodedGroup], share: float) -> Rows:
    """Lay groups out."""
    pairs = [(g.prompt_ids, r) for g in groups for r in g.response_ids]
    lengths = [len(p) + len(r) for p, r in pairs]
    sizes = torch.tensor([len(r) for _, r in pairs])
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    scored = [torch.arange(s + len(p) - 1, s + n - 1) for s, n, (p, _) in zip(starts, lengths, pairs, strict=False)]
    return Rows(
        torch.tensor([t for p, r in pairs for t in (*p, *r)])[None],
        torch.cat([torch.arange(n) for n in lengths])[None],
        lengths,
        torch.cat(scored),
        torch.tensor([t for _, r in pairs for t in r]),
        torch.arange(len(pairs)).repeat_interleave(sizes),
        sizes,
        share,
    )


def micro_batches(groups: list[EncodedGroup], tokens: int) -> Iterator[Rows]:
    """Cut a step, the longest groups first, so that each part's rows have no more than so many tokens."""
    size = lambda g: sum(len(g.prompt_ids) + len(r) for r in g.response_ids)  # noqa: E731
    held: list[EncodedGroup] = []
    for group in sorted(groups, key=size, reverse=True):
        if held and sum(map(size, held)) + size(group) > tokens:
            yield rows_of(held, len(held) / len(groups))
            held = []
        held.append(group)
    yield rows_of(held, len(held) / len(groups))


@dataclass(frozen=True)
class Peer:
    """A padding-free run to be measured."""

    shape: Shape
    groups: list[EncodedGroup]
    tokens: int
    step_groups: int = 64
    warm_up: int = 3
    steps: int = 10
    loss: Loss = pair_loss
    reference: bool = True

    def measure(self, device: str) -> dict[str, Any]:
        """Train, and return what was measured."""
        torch.manual_seed(0)
        with torch.device(device):
            model: Any = AutoModelForCausalLM.from_config(
                self.shape.config, attn_implementation=register(), trust_remote_code=False
            )
        frozen = copy.deepcopy(model).requires_grad_(False) if self.reference else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7, weight_decay=0.0, fused=True)
        steps = list(itertools.islice(self._steps(), self.warm_up + self.steps))
        laid_out = [[pinned(rows, device) for rows in micro_batches(step, self.tokens)] for step in steps]
        losses = [train(model, frozen, optimizer, parts, self.loss, device) for parts in laid_out[: self.warm_up]]
        restart_peak(device)
        watch = Stopwatch(device)
        losses += [train(model, frozen, optimizer, parts, self.loss, device) for parts in laid_out[self.warm_up :]]
        return self._found(watch.stop(), steps[self.warm_up :], losses, device)

    def _steps(self) -> Iterator[list[EncodedGroup]]:
        """Yield the steps that our loader makes, group by group the same."""
        order = KnownLengths(self.groups, Batching(groups=self.step_groups)).train_dataloader().sampler
        for epoch in itertools.count():
            order.set_epoch(epoch)
            yield from ([self.groups[i] for i in step] for step in order.batches())

    def _found(
        self, seconds: float, steps: list[list[EncodedGroup]], losses: list[Tensor], device: str
    ) -> dict[str, Any]:
        groups = [group for step in steps for group in step]
        work = Work([len(g.prompt_ids) for g in groups], [[len(r) for r in g.response_ids] for g in groups])
        useful = work.flops(self.shape.config, head=True) / 3 * (4 if self.reference else 3)
        return {
            "groups_per_s": len(groups) / seconds,
            "ms_per_step": 1e3 * seconds / self.steps,
            "useful_tflops": useful / seconds / 1e12,
            "mfu": mfu(useful / seconds),
            "first_loss": float(losses[0]),
            "last_loss": float(losses[-1]),
            "peak_gib": peak_gib(device),
        }


def pinned(rows: Rows, device: str) -> Rows:
    """Return the rows where a copy to the device need not wait."""
    if device != "cuda":
        return rows
    return Rows(*(value.pin_memory() if isinstance(value, Tensor) else value for value in rows))


def train(  # noqa: PLR0917
    model: Any,
    frozen: Any,
    optimizer: torch.optim.Optimizer,
    parts: list[Rows],
    loss_of: Loss,
    device: str,
) -> Tensor:
    """Do one step and return its loss."""
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    for rows in parts:
        rows = Rows(*(v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for v in rows))
        with torch.autocast(device, torch.bfloat16):
            policy = candidate_logprobs(model, rows, device)
            with torch.no_grad():
                reference = policy.detach() if frozen is None else candidate_logprobs(frozen, rows, device)
        loss = loss_of(policy, reference, rows.sizes) * rows.share
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    optimizer.step()
    return total


def candidate_logprobs(model: Any, rows: Rows, device: str) -> Tensor:
    """Return the summed log-probability of every candidate's response."""
    ends = Ends.of(rows.lengths, device)
    mask = {"full_attention": None}  # a finished mask: transformers then looks for none
    body = model.model(input_ids=rows.ids, position_ids=rows.positions, attention_mask=mask, use_cache=False, ends=ends)
    hidden = body.last_hidden_state[0, rows.predictors]
    chunks = zip(hidden.split(CHUNK), rows.targets.split(CHUNK), strict=True)
    weight = model.lm_head.weight
    parts = [checkpoint(target_logprobs, states, ids, weight, use_reentrant=False) for states, ids in chunks]
    return torch.zeros(len(rows.sizes), device=device).index_add(0, rows.owners, torch.cat(parts))


def target_logprobs(hidden: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the log-probability of each target, the softmax in float32."""
    logits = F.linear(hidden, weight).float()
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)
