"""Evaluates a policy by the gold rewards of the synthetic world while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from align.callbacks.run_parts import policy_of
from align.data.synthetic import SyntheticDataModule
from align.errors import ConfigError
from align.evaluation.gold_evaluation import SAMPLED, GoldReport, evaluate_gold, load_base
from align.sampling.generation import Generation
from align.sampling.trained_module import TrainedModule
from align.strict_json import json_text
from align.world.gold_rewards import User
from align.world.prompts import held_out_prompts
from align.world.universe import World


class GoldEvaluation(Callback):
    """Samples on held-out prompts before training and after each validation run; needs `SyntheticDataModule`.

    The policy is asked as its method asks it, the base with the prompt alone. Logs `gold/reward`, each gold reward,
    `gold/share_of_optimum`, `gold/kl` and the rates of refusals, whole sentences and true facts; appends them to
    `gold.jsonl` in the run folder.
    """

    def __init__(
        self, harmless: int = 96, harmful: int = 60, *, generation: Generation = SAMPLED, user: User = User()
    ) -> None:
        """Configure the evaluation.

        Args:
            harmless: How many harmless prompts.
            harmful: How many harmful prompts.
            generation: How to sample; the KL divergence is only sound at temperature 1.
            user: Whose reward to report.
        """
        if min(harmless, harmful) < 0 or not harmless + harmful:
            raise ConfigError(
                "align.callbacks.gold.GoldEvaluation: harmless and harmful must not be negative, nor both 0, got "
                f"{harmless}, {harmful}"
            )
        self.counts, self.generation, self.user = (harmless, harmful), generation, user
        self._base: nn.Module | None = None
        self._base_report: GoldReport | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model the run starts from, which is the base of the KL divergence and of the share."""
        world = _world(trainer)
        if pl_module.device_mesh is not None:
            raise ConfigError("align.callbacks.gold.GoldEvaluation cannot sample from a sharded model: leave it out")
        module = policy_of(pl_module, self)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._base = load_base(module.backbone, module.tokenizer).to(module.device)
        self._base_report = self.evaluate(self._base, module, world)
        if trainer.global_step == 0:
            self._write(trainer, self._base_report)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it is."""
        if self._base is not None and not trainer.sanity_checking and trainer.state.fn == "fit":
            module = policy_of(pl_module, self)
            report = self.evaluate(module.model, module, _world(trainer))
            self._write(trainer, report, module.asking.told)

    def evaluate(self, model: nn.Module, module: TrainedModule, world: World) -> GoldReport:
        """Return the report on a model."""
        prompts = held_out_prompts(world, *self.counts)
        asked = None if model is self._base else [module.asking.apply(prompt) for prompt in prompts]
        options: dict[str, Any] = {"generation": self.generation, "user": self.user, "base": self._base}
        return evaluate_gold(model, module.tokenizer, world, prompts, asked=asked, **options)

    def _write(self, trainer: Trainer, report: GoldReport, told: str = "") -> None:
        assert self._base_report is not None
        values = {**report.as_dict(), "share_of_optimum": report.share_of_optimum(self._base_report)}
        for logger in trainer.loggers:
            logger.log_metrics({f"gold/{name}": value for name, value in values.items()}, step=trainer.global_step)
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "gold.jsonl").open("a", encoding="utf-8") as file:
            asked = {"asked": told} if told else {}
            print(json_text({"step": trainer.global_step, **values, **asked}), file=file)


def _world(trainer: Trainer) -> World:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, SyntheticDataModule):
        raise ConfigError("align.callbacks.gold.GoldEvaluation needs gold rewards: use --data SyntheticDataModule")
    return data.world
