"""Losses on ranked lists of responses: what they share, and PRO."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from align.errors import DataError
from align.objectives.objective import Objective, holds
from align.objectives.reward_values import RewardTransform
from align.records import ListScores

MASKED = -1e30
"""Logit of what does not take part; finite, since a row of infinities has no gradient."""


class RankingObjective(Objective):
    """A loss on candidate groups: ranked lists, or sets with scores."""

    view = "lists_by_reward"
    requires = frozenset()

    @abstractmethod
    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each group."""

    @abstractmethod
    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return the implicit rewards by which the policy ranks the candidates, for the logs."""

    def parts(self, policy: ListScores, reference: ListScores) -> dict[str, Float[Tensor, " group"]]:
        """Return parts of the loss by name, for the logs; NaN where a group has no such part."""
        return {}


@dataclass(frozen=True)
class PRO(RankingObjective):
    """Preference Ranking Optimization (Song et al. 2023, arXiv:2306.17492, Eqs. 6 and 9 to 11).

    With s the mean log-probability of a token and tau_k^i = r_k - r_i the inverse temperature of Eq. 10 (tau_k^k the
    largest of them, Eq. 11): L = sum_k [logsumexp_{i>=k} tau_k^i s_i - tau_k^k s_k] + sft_beta (n-1)^2 SFT.
    The paper's prose calls s a product; Eq. 6 and the released code take the mean. The code takes the SFT term from
    the sum over tokens, not the mean. It guards its logarithm with 1e-10, which for tau |s| > 23 turns the loss into
    plain likelihood; here `eps` 0 is exact. A response tied with k has tau 0 in the code and so counts as exp(0),
    more than any other: it strengthens the pull on k and is itself not pushed. A record without a reward for every
    response has tau 1 throughout.
    """

    step_groups = 112

    temperature: Literal["dynamic", "none"] = "dynamic"
    """`dynamic` by the gaps between rewards, or `none`: tau is 1 (Eq. 8)."""
    score: Literal["mean", "sum"] = "mean"
    """Log-probability per token or of the whole response."""
    ties: Literal["code", "mask"] = "code"
    """`code` leaves a tied response in the sum with tau 0, `mask` takes it out."""
    tie_eps: float = 1e-6
    """Rewards no further apart are tied, under `mask`."""
    only_first_term: bool = False
    """Contrast the best response with the others and leave out k > 1."""
    sft_beta: float = 0.05
    """Weight of the likelihood of one response, times (n-1)^2 for a list of n; 0 leaves it out."""
    sft_reduction: Literal["sum", "token_mean"] = "sum"
    """Take that likelihood of the whole response or per token."""
    sft_target: Literal["best", "first"] = "best"
    """The response of the highest reward, or the one the data puts first (with `on_unsorted: sort` they differ)."""
    on_unsorted: Literal["error", "sort", "clamp0"] = "error"
    """Rewards that rise along a list: an error, sorted (stably), or their gaps set to 0."""
    eps: float = 0.0
    """Added to the sum inside the logarithm; the released code has 1e-10."""
    reward_transform: RewardTransform | None = None
    """What is done to rewards before their gaps are taken; null, like paper and code, takes them raw."""

    def __post_init__(self) -> None:
        for name in ("tie_eps", "sft_beta", "eps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def __call__(self, policy: ListScores, reference: ListScores) -> Float[Tensor, " group"]:
        """Return the loss of each list, in nats; 0 for a list of one."""
        ordered = self._ordered(policy)
        weight, nll = self._sft(policy, ordered)
        return self.terms(ordered).sum(1) + weight * nll

    def check_labels(self, given: ListScores) -> None:
        """Raise DataError where rewards rise along a list, unless `on_unsorted` allows it."""
        self._ordered(given)

    def rewards(self, policy: ListScores, reference: ListScores) -> Float[Tensor, "group candidate"]:
        """Return s."""
        return policy.means if self.score == "mean" else policy.logprobs

    def parts(self, policy: ListScores, reference: ListScores) -> dict[str, Float[Tensor, " group"]]:
        """Return the ranking loss, each of its terms, and the SFT term weighted and as it is."""
        ordered = self._ordered(policy)
        terms, (weight, nll) = self.terms(ordered), self._sft(policy, ordered)
        steps = {f"pro_k{k + 1}": terms[:, k].where(policy.mask[:, k + 1], math.nan) for k in range(terms.shape[1] - 1)}
        return {"pro": terms.sum(1), **steps, "sft": weight * nll, "sft_nll": nll}

    def terms(self, ordered: ListScores) -> Float[Tensor, "group candidate"]:
        """Return the loss of every step k of lists in order; 0 where nothing stands after k."""
        gaps, graded = self._gaps(ordered)
        place = torch.arange(gaps.shape[1], device=gaps.device)
        negative = (place[None, :] > place[:, None]) & ordered.mask[:, :, None] & ordered.mask[:, None, :]
        if self.ties == "mask":
            negative = negative & (gaps > self.tie_eps)
        active = negative.any(2)
        if self.only_first_term:
            active = active & (place == 0)
        own = torch.eye(len(place), dtype=torch.bool, device=gaps.device)
        steepest = gaps.where(negative, 0).amax(2, keepdim=True)
        tau = torch.where(own, steepest, gaps).where(graded[:, None, None], 1)
        logits = tau * self.rewards(ordered, ordered)[:, None, :]
        logits = logits.where((negative | own) & active[:, :, None], MASKED).where(active[:, :, None], 0)
        total = logits.logsumexp(2)
        if self.eps:
            total = torch.logaddexp(total, torch.full_like(total, math.log(self.eps)))
        return (total - logits.diagonal(dim1=1, dim2=2)).where(active, 0)

    def _gaps(self, ordered: ListScores) -> tuple[Float[Tensor, "group candidate candidate"], Bool[Tensor, " group"]]:
        """Return r_k - r_i, not below 0, and which lists they temper; lists without rewards have gaps of ranks."""
        known = ordered.graded
        rewards = ordered.scores.where(known[:, None] & ordered.mask, 0)
        if self.reward_transform is not None:
            rewards = self.reward_transform(rewards, ordered.mask)
        values = torch.where(known[:, None], rewards, -ordered.ranks.to(rewards.dtype))
        graded = known if self.temperature == "dynamic" else torch.zeros_like(known)
        return (values[:, :, None] - values[:, None, :]).clamp(min=0), graded

    def _sft(self, policy: ListScores, ordered: ListScores) -> tuple[Tensor, Tensor]:
        """Return the weight and the negative log-likelihood of each list's target."""
        source = ordered if self.sft_target == "best" else policy
        target = source.logprobs if self.sft_reduction == "sum" else source.means
        return self.sft_beta * (policy.mask.sum(1).to(target.dtype) - 1) ** 2, -target[:, 0]

    def _ordered(self, policy: ListScores) -> ListScores:
        """Return the lists by falling reward, as `on_unsorted` says."""
        rewards = policy.scores.where(policy.graded[:, None], 0).where(policy.mask, -math.inf)
        if self.on_unsorted == "sort":
            order = rewards.argsort(dim=1, descending=True, stable=True)
            return ListScores(*(values.gather(1, order) for values in policy))
        if self.on_unsorted == "error" and not holds(rewards[:, 1:] <= rewards[:, :-1]):
            raise DataError("rewards rise along a list: sort the data by reward (view ScoredLists), or set on_unsorted")
        return policy
