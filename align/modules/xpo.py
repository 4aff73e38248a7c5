"""Exploratory preference optimisation: online DPO that looks where the reference does not."""

from __future__ import annotations

from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.references import Reference
from align.modules.dpo import DPOModule
from align.objectives.pairwise import DPO, PairObjective
from align.records import Step
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
        optimism: float | list[float] = 1e-5,
        reference: Reference | None = None,
        optimizer: Optimizer = Optimizer(),
    ) -> None:
        """Configure the method.

        Args:
            backbone: The policy.
            objective: The loss of pairs, the paper's DPO or, as TRL had it, IPO; it has a reference.
            optimism: Weight of the term, the paper's alpha; positive. A list has one for each epoch of the trainer
                (a round, where rounds have one), of which the last stays.
            reference: The policy that is explored from; null takes the policy's start.
            optimizer: AdamW and its schedule.
        """
        super().__init__(backbone, objective, reference=reference, optimizer=optimizer)
        self.optimism = optimism if isinstance(optimism, list) else [optimism]
        if not self.optimism or self.optimism[0] <= 0 or min(self.optimism) < 0:
            raise ConfigError(
                f"model.optimism must be positive, in a list at first and never negative, got {optimism}: without it "
                "take DPOModule"
            )
        if "reference" not in objective.requires:
            name = type(objective).__name__
            raise ConfigError(f"XPOModule compares with a reference, {name} has none: take DPO or IPO")
        self.exploring = PairwiseLosses(objective, weighting=None, nll_weight=0.0, optimism=self.optimism[0])
        self.losses = self.exploring

    def begin_step(self, step: Step) -> None:
        """Take the weight of the epoch."""
        if self.attached:
            self.exploring.optimism = self.optimism[min(self.trainer.current_epoch, len(self.optimism) - 1)]
        super().begin_step(step)
