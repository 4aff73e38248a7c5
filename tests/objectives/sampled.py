"""Groups of samples as TRL's trainers and as our modules take them: one policy, old log-probabilities, a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from align.models.backbone import Backbone
from align.models.references import FrozenCopy
from align.modules.group_policy import GroupPolicyModule
from align.objectives.policy_gradient import PolicyGradient
from align.records import CandidateBatch, EncodedGroup, SampledRound, Step
from align.scoring import score_tokens
from align.training.rollouts import Rollouts
from tests.objectives.trl_models import models

SAMPLES: list[tuple[list[int], list[list[int]]]] = [
    ([0, 9, 10, 11], [[12, 13, 1], [14, 1], [15, 16, 17, 18, 19]]),
    ([0, 20, 21], [[22, 23, 24, 25, 1], [26, 27, 1], [28]]),
]
ADVANTAGES = [1.2, -0.7, 0.3, -1.1, 0.8, -0.4]
FINISHED = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]


def sampled_batch() -> CandidateBatch:
    rows, labels = [], iter(zip(ADVANTAGES, FINISHED, strict=True))
    for n, (prompt, responses) in enumerate(SAMPLES):
        scores = [list(next(labels)) for _ in responses]
        rows.append(EncodedGroup(f"g{n}", prompt, responses, [0] * 3, scores, 1.0, [False] * 3))
    return CandidateBatch.of(rows, attributes=("reward", "finished"))


class Taken:
    """A policy in float64, what is known of its samples, and the module that is trained on them."""

    def __init__(self, objective: PolicyGradient, drift: float = 0.3) -> None:
        self.policy, self.frozen = (model.double() for model in models())
        self.batch = sampled_batch()
        torch.manual_seed(3)
        with torch.no_grad():
            now = score_tokens(self.policy, self.batch).logprobs
            self.reference = score_tokens(self.frozen, self.batch).logprobs
        self.old = now + drift * torch.randn_like(now)
        lengths = np.array(self.batch.response_lengths)
        numbers = np.array([3, 3]), lengths, np.array(ADVANTAGES), np.array(FINISHED)
        more = {"temperature": 1.0, "steps": 2, "batches": lambda: [self.batch], "path": Path("x"), "sha256": ""}
        sampled = SampledRound(0, ["g0", "g1"], *numbers, **more)  # type: ignore[arg-type]
        reference = FrozenCopy() if objective.beta else None
        self.module = GroupPolicyModule(Backbone("unused"), objective, reference=reference)
        self.module.model = self.policy
        rollouts = self.module.rollouts = Rollouts(sampled)
        rollouts.columns = {"old_logprobs": self.old, "advantages": rollouts.by_token(np.array(ADVANTAGES))}
        if objective.beta:
            rollouts.columns["reference_logprobs"] = self.reference

    def loss(self, *batches: CandidateBatch) -> torch.Tensor:
        step = Step(batches or (self.batch,))
        self.module.begin_step(step)
        return torch.stack([self.module.loss(batch, batch.totals) for batch in step]).sum()

    def trl_inputs(self) -> dict[str, Any]:
        """The same as TRL's trainers have it: prompts padded on the left, completions on the right."""
        prompts = [torch.tensor(p) for p, responses in SAMPLES for _ in responses]
        completions = [torch.tensor(r) for _, responses in SAMPLES for r in responses]
        flipped = [p.flip(0) for p in prompts]
        lengths = list(self.batch.response_lengths)
        padded = {
            "prompt_ids": pad_sequence(flipped, batch_first=True, padding_value=2).flip(1),
            "prompt_mask": pad_sequence([torch.ones_like(p) for p in flipped], batch_first=True).flip(1),
            "completion_ids": pad_sequence(completions, batch_first=True, padding_value=2),
            "completion_mask": pad_sequence([torch.ones_like(c) for c in completions], batch_first=True),
        }
        for name, values in (("old_per_token_logps", self.old), ("ref_per_token_logps", self.reference)):
            padded[name] = pad_sequence(list(torch.split(values, lengths)), batch_first=True)
        counted = padded["completion_mask"].sum()
        return {**padded, "advantages": torch.tensor(ADVANTAGES), "num_items_in_batch": counted}

    @property
    def old_sums(self) -> torch.Tensor:
        return torch.stack([v.sum() for v in torch.split(self.old, list(self.batch.response_lengths))])
