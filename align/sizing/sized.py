"""A run sized for a place: how it lies on the GPUs, the largest batches that fit, and how long it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from align.scoring.decoder import unwrapped
from align.sizing.cards import Card
from align.sizing.groups import Growth, TypicalGroup
from align.sizing.memory import Batch, Memory, Spread, Weights, memory_of, weights_of
from align.sizing.meta_model import on_meta
from align.sizing.method import SizableMethod
from align.sizing.pass_cost import PassConditions, PassCost, head_cost, pass_cost
from align.sizing.speed import Passes, Work, passes_of, positions_per_second, work_of
from align.sizing.states_cost import NO_STATES, StatesCost, states_cost

MOST = 65536
"""Positions of the largest batch that is proposed: more are no faster."""
STEP = 1024
LONGEST = 2**20
"""Tokens of the longest sequence that is looked for where a model has no window."""


@dataclass(frozen=True)
class Sized:
    """A module whose costs are known."""

    module: SizableMethod
    """Built, its tensors without values."""
    groups: TypicalGroup
    conditions: PassConditions
    around: int
    quantised: bool
    """Whether frozen layers are held in 4 bits, which the tensors do not show."""

    @classmethod
    def of(
        cls, module: SizableMethod, groups: TypicalGroup, conditions: PassConditions, around: int, **settings: Any
    ) -> Sized:
        """Build a module on the meta device; `settings` replace those of its backbone."""
        asked = replace(module.backbone, **settings)
        built = on_meta(module, asked, short=conditions.short)
        return cls(built, groups, conditions, around, asked.quantization is not None)

    @cached_property
    def weights(self) -> Weights:
        """Return its weights."""
        return weights_of(self.module, quantised=self.quantised)

    @cached_property
    def cost(self) -> PassCost:
        """Return what a pass costs."""
        weights, work, passes = self.weights, self.work, self.passes  # before tensors are replaced
        assert weights
        assert work
        assert passes
        found = pass_cost(self.module.model, self.groups, self._conditions, around=self.around)
        kept = Growth(*(passes.depth * (1 + passes.beside) * part for part in found.kept))
        return found._replace(kept=kept)

    @cached_property
    def _conditions(self) -> PassConditions:
        return replace(self.conditions, compares=self.passes.frozen > 0)

    @cached_property
    def head(self) -> Growth:
        """Return what logits take by positions; nothing where there are none."""
        if not self.module.has_logits or self._compares_states:
            return Growth(0, 0)
        assert self.cost
        budget = self.module.backbone.logit_bytes
        points = [
            (n, head_cost(self.module.model, max(int(n * self.groups.scored), 1), budget, self._conditions))
            for n in (self.around, 2 * self.around)
        ]
        return Growth.through(points)

    @property
    def whole(self) -> bool:
        """Whether the models cannot be laid in shards."""
        lora = self.module.backbone.lora
        return not self.module.optimizer.shardable or (lora is not None and lora.init_lora_weights is not None)

    @property
    def _compares_states(self) -> bool:
        return bool(self.module.reads_states)

    @cached_property
    def states(self) -> StatesCost:
        """Return what comparing states takes; nothing where logits are."""
        if not self._compares_states:
            return NO_STATES
        assert self.cost
        return states_cost(self.module, self.groups, self._conditions, self.around)

    @cached_property
    def work(self) -> Work:
        """Return what a position takes."""
        return work_of(self.module.model, self.groups, head=self.module.generates)

    @cached_property
    def passes(self) -> Passes:
        """Return the passes of a step."""
        policy = [(p.numel(), p.requires_grad) for p in self.module.model.parameters()]
        share = sum(size for size, trained in policy if trained) / sum(size for size, _ in policy)
        return passes_of(self.module, share, checkpointed=self.module.backbone.gradient_checkpointing is True)

    def batch(self, tokens: int) -> Batch:
        """Return what a batch of so many positions takes."""
        blocks = self.cost.working.at(tokens) + self.weights.unpacked + self.states.held.at(tokens)
        working = max(blocks, self.head.at(tokens), self.states.peak.at(tokens), 0.0)
        return Batch(self.cost.kept.at(tokens), max(self.cost.kept.fixed, 0.0), working)

    def memory(self, tokens: int, spread: Spread) -> Memory:
        """Return the memory of one GPU."""
        states = self.module.optimizer.state_bytes
        mixed, prefetch = self.conditions.mixed, self.conditions.prefetch
        return memory_of(self.weights, self.batch(tokens), spread, states=states, mixed=mixed, prefetch=prefetch)

    def largest(self, card: Card, spread: Spread) -> int:
        """Return the positions of the largest batch that fits, in steps of 1024; 0 where not even one does."""
        fits = [tokens for tokens in range(STEP, MOST + 1, STEP) if self.memory(tokens, spread).total <= card.usable]
        return max(fits, default=0)

    @property
    def window(self) -> int:
        """Return the longest sequence the model takes, 0 where it has no limit."""
        config = unwrapped(self.module.model).config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or 0

    def longest(self, card: Card, spread: Spread) -> int:
        """Return the tokens of the longest prompt with one response that fit, where a batch is one group.

        The group has the usual number of responses in the usual proportion to its prompt. At most the model's window.
        """
        share = (self.groups.prompt + self.groups.response) / self.groups.tokens
        low, high = 0, math.ceil((self.window or LONGEST) / share) + 1
        while high - low > 1:  # memory grows with positions
            middle = (low + high) // 2
            fits = self.memory(middle, spread).total <= card.usable
            low, high = (middle, high) if fits else (low, middle)
        return min(math.floor(low * share), self.window or LONGEST)

    def rate(self, card: Card) -> float:
        """Return the positions of a second of one card."""
        return positions_per_second(self.work, self.passes, card.tflops)


class Proposal(NamedTuple):
    """Settings that fit into a place."""

    sized: Sized
    spread: Spread
    tokens: int
    changes: tuple[str, ...]
    """What is trained otherwise than was asked."""

    def memory(self) -> Memory:
        """Return the memory of one GPU."""
        return self.sized.memory(self.tokens, self.spread)
