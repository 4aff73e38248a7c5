"""RLHF by PPO: a policy and a critic trained on the policy's own samples."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from align.distributed import sum_over_ranks
from align.models.adapters import evaluating
from align.models.backbone import Backbone
from align.models.references import Reference
from align.models.value_functions import AdapterValue, Critic, CriticSettings, CriticValues, ModelValue
from align.objectives.proximal import PPO
from align.records import CandidateBatch, SampledTokens, Step, StepTotals
from align.scoring import TokenStates
from align.training.non_finite import Limit
from align.training.optimizer import Optimizer
from align.training.rollout_module import RolloutModule
from align.training.rollouts import Columns, Rollouts
from align.training.sampled_metrics import record_samples
from align.transfer import to_device


class PPOModule(RolloutModule):
    """Trains a policy on its own samples against a critic's values, near a reference policy.

    `IterativeResampling` with the selection `EverySample` draws and scores them; its `epochs` are PPO's inner epochs,
    and `data.batching.groups` prompts are a mini-batch.
    """

    learning_rates = (1e-6, 1e-5)
    critic: Critic
    kl_coef: Tensor
    """Weight of the divergence in the next round; in checkpoints."""

    def __init__(
        self,
        backbone: Backbone,
        objective: PPO = PPO(),
        *,
        value: CriticSettings | None = None,
        reference: Reference | None = None,
        optimizer: Optimizer = Optimizer(lr_scheduler_type="constant_with_warmup"),
    ) -> None:
        """Configure PPO.

        Args:
            backbone: The policy.
            objective: Rewards of tokens, advantages, clips.
            value: The critic: a head on the policy, an adapter beside it, or a model of its own; null takes an adapter
                where the policy is one, else a copy of the policy. A head on the policy's states takes no memory, and
                its loss moves them: it wants a lower learning rate.
            reference: Where reference log-probabilities come from; null takes the policy's start.
            optimizer: AdamW and its schedule, for policy and critic.
        """
        super().__init__(backbone, reference, optimizer)
        self.objective, self.value = objective, value
        self.entropy_gradients = objective.entropy_weight > 0
        if objective.ratio_threshold is not None:
            self._finite.limits["ratio"] = Limit(objective.ratio_threshold, "objective.ratio_threshold")
        self.register_buffer("kl_coef", torch.tensor(objective.kl_coef, dtype=torch.float64))

    @property
    def reads_reference(self) -> bool:
        """Whether a divergence is taken off the rewards."""
        return self.objective.kl_coef > 0

    @property
    def reads_old(self) -> bool:
        """Always: values are those of the round's start."""
        return True

    @property
    def passes_beside(self) -> int:
        """The critic's."""
        return self.critic.passes

    def build(self) -> nn.Module:
        """Load the policy, its reference and the critic."""
        policy = super().build()
        value = self.value or (AdapterValue() if self.backbone.lora else ModelValue())
        self.critic = value.build(policy, self.backbone, self.tokenizer)
        return policy

    def models(self) -> list[nn.Module]:
        """Return the policy, its reference and the critic's own model, where it has one."""
        return [*super().models(), *self.critic.models]

    def score_sampled(self, batch: CandidateBatch, states: TokenStates) -> Columns:
        """Return the critic's values as the round begins."""
        with evaluating(self.critic):
            found = self._values(batch, states)
        columns = {"old_values": found.tokens}
        if found.ends is not None:
            columns["old_end_values"] = found.ends.repeat_interleave(states.counts, output_size=len(found.tokens))
        return columns

    def judge(self, rollouts: Rollouts) -> None:
        """Add advantages and returns, and let the coefficient of the divergence follow its target."""
        columns, sampled, objective = rollouts.columns, rollouts.sampled, self.objective
        old, values = columns["old_logprobs"].double(), columns["old_values"].double().numpy()
        reference = columns["reference_logprobs"].double() if self.reads_reference else old
        divergence, coefficient = objective.divergence(old, reference).numpy(), float(self.kl_coef)
        scores, ends = objective.scores(sampled.rewards), None
        if "old_end_values" in columns:
            last = columns["old_end_values"].double().numpy()[np.cumsum(sampled.lengths) - 1]
            ends = np.where(sampled.finished > 0, last, np.nan)
        found = objective.estimates(scores, divergence, values, sampled.lengths, kl_coef=coefficient, end_values=ends)
        columns["advantages"], columns["returns"] = (torch.from_numpy(v).float() for v in found[:2])
        if found.end_returns is not None:
            columns["end_returns"] = rollouts.by_token(found.end_returns)
        kl = float(divergence.sum() / len(sampled.lengths))
        if objective.adaptive_kl is not None:
            self.kl_coef.fill_(objective.adaptive_kl.next(coefficient, kl, len(sampled.lengths)))
        rank_zero_info(f"round {sampled.number}: KL {kl:.4g} nats a sample at kl_coef {coefficient:.4g}")

    def begin_step(self, step: Step) -> None:
        """Count the states behind ends too, where their values are learned."""
        super().begin_step(step)
        self.step_values = self.step_tokens
        if self.objective.reads_ends:
            assert self.rollouts is not None
            finished = self.rollouts.sampled.finished
            ends = [
                (batch.candidate_weights() * to_device(self.rollouts.samples_of(batch, finished), self.device)).sum()
                for batch in step
            ]
            self.step_values = self.step_tokens + sum_over_ranks(torch.stack(ends).sum())

    def loss(self, batch: CandidateBatch, totals: StepTotals) -> Tensor:
        """Return the losses of policy and critic over the step's tokens."""
        states = self._states(self.model, batch)
        found = self._values(batch, states)
        tokens = self.sampled_tokens(batch, states)._replace(values=found.tokens)
        policy, clipped = self.objective(tokens)
        critic, stopped = self.objective.value_losses(tokens)
        weights = tokens.on_tokens(batch.candidate_weights())
        record_samples(self, batch, tokens, clipped)
        self._record(tokens, policy, critic, stopped, weights)
        losses = policy + self.objective.vf_coef * critic if found.ends is None else policy
        if self.objective.entropy_weight:
            losses = losses - self.objective.entropy_weight * tokens.entropies
        loss = (losses * weights).sum() / self.step_tokens
        if found.ends is None:
            return loss
        learned = (critic * weights).sum() + self._behind_ends(batch, tokens, found.ends)
        return loss + self.objective.vf_coef * learned / self.step_values

    def _values(self, batch: CandidateBatch, states: TokenStates) -> CriticValues:
        ends = self.objective.reads_ends
        return self.critic.values(self.model, batch, states, layout=self.backbone.layout, ends=ends)

    def _behind_ends(self, batch: CandidateBatch, tokens: SampledTokens, values: Tensor) -> Tensor:
        """Return the critic's losses of the states behind the samples' ends, added up; one cut off has none."""
        assert tokens.old_end_values is not None
        assert tokens.end_returns is not None
        last = tokens.counts.cumsum(0) - 1
        old, returns = tokens.old_end_values[last], tokens.end_returns[last]
        ends = tokens._replace(values=values, old_values=old, returns=returns.nan_to_num())
        return (self.objective.value_losses(ends)[0] * ~returns.isnan() * batch.candidate_weights()).sum()

    def _record(self, tokens: SampledTokens, policy: Tensor, critic: Tensor, stopped: Tensor, weights: Tensor) -> None:
        assert tokens.values is not None
        assert tokens.returns is not None
        self.record("policy_loss", policy.detach(), weights)
        self.record("value_loss", critic.detach(), weights)
        self.record("value_clip_ratio", stopped.to(weights.dtype), weights)
        self.record("value", tokens.values.detach(), weights)
        self.record("return", tokens.returns, weights)
