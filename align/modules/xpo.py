"""Exploratory preference optimisation: online DPO that looks where the reference does not."""

from __future__ import annotations

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import Reference
from align.modules.dpo import DPOModule
from align.objectives.pairwise import DPO, PairObjective
from align.training.optimizer import Optimizer
from align.training.pairwise_losses import PairwiseLosses


class XPOModule(DPOModule):
    """Trains on a sample of the policy against one of the reference (Xie et al. 2024, arXiv:2405.21046, Algorithm 1).

    In rounds of `IterativeResampling` with the selection ReferencePair. To the loss of the pair it adds `optimism`
    times the policy's log-probability of the response that the reference drew, in nats. Validation pairs have no such
    response, and a loss without the term.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: PairObjective = DPO(),
        *,
        optimism: float = 1e-5,
        reference: Reference | None = None,
        optimizer: Optimizer = Optimizer(),
    ) -> None:
        """Configure the method.

        Args:
            backbone: The policy.
            objective: The loss of pairs, the paper's DPO or, as TRL had it, IPO; it has a reference.
            optimism: Weight of the term, the paper's alpha; positive.
            reference: The policy that is explored from; null takes the policy's start.
            optimizer: AdamW and its schedule.
        """
        super().__init__(backbone, objective, reference=reference, optimizer=optimizer)
        if optimism <= 0:
            raise ConfigError(f"model.optimism must be positive, got {optimism:g}: without it take DPOModule")
        if "reference" not in objective.requires:
            name = type(objective).__name__
            raise ConfigError(f"XPOModule compares with a reference, {name} has none: take DPO or IPO")
        self.optimism = optimism
        self.losses = PairwiseLosses(objective, weighting=None, nll_weight=0.0, optimism=optimism)
