"""Trains on data the policy makes itself, round by round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from align.errors import ConfigError
from align.oracles.scorers import Direction, Scorer
from align.rounds.builders import Builder
from align.rounds.feed import RoundFeed
from align.rounds.mixing import Replay
from align.rounds.settings import RoundSettings
from align.rounds.weights import go_back, save_start
from align.sampling.generation import Generation

PAIR = Generation(num_samples=2, temperature=0.9)


class IterativeResampling(Callback):
    """Replaces the training data by rounds: sample from the policy, score, select, seal, train; then the next round.

    A round is made when its first epoch begins, with the weights of that moment. Samples, rewards and sealed rounds
    are in `rounds/` of the run folder; a run that is killed goes on at the first sample that is missing. The
    reference of the method stays what it is. `align rounds RUN` lists the rounds.
    """

    def __init__(  # noqa: PLR0913
        self,
        scorer: Scorer,
        builder: Builder,
        *,
        generation: Generation = PAIR,
        direction: Direction = Direction(),
        prompts: int | None = None,
        epochs: int = 1,
        replay: Replay | None = None,
        missing_eos_penalty: float | None = None,
        restart: bool = False,
    ) -> None:
        """Configure rounds.

        Args:
            scorer: What the samples are worth.
            builder: What is made of them.
            generation: How to sample; its seed is added to the run's.
            direction: Which reward its scores make.
            prompts: Prompts of a round, the next ones of a shuffled order each time; null takes all. A round of few
                prompts is a round of few steps, down to one.
            epochs: Epochs of a round.
            replay: Records of the data to mix in; null trains on samples alone.
            missing_eos_penalty: Subtracted from the reward of a sample cut off at its limit; null leaves it out.
            restart: Begin every round with the weights the run started from, and a fresh optimiser.
        """
        if epochs < 1:
            raise ConfigError(f"callbacks.resampling.IterativeResampling: epochs must be at least 1, got {epochs}")
        self.epochs, self.restart = epochs, restart
        self.settings = RoundSettings(
            scorer,
            builder,
            generation,
            direction,
            prompts=prompts,
            replay=replay,
            missing_eos_penalty=missing_eos_penalty,
        )
        self._feed: RoundFeed | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the data module ask for rounds, and Lightning ask the data module at every epoch."""
        if stage != "fit":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not getattr(pl_module, "generates", False) or not hasattr(data, "rounds"):
            raise ConfigError("callbacks.resampling.IterativeResampling needs a policy and one of our data modules")
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
        generation = replace(self.settings.generation, seed=self.settings.generation.seed + data.run_seed)
        settings = replace(self.settings, generation=generation)
        self._feed = data.rounds = RoundFeed(trainer, self._folder(trainer), settings, self.epochs)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Go back to the start at the first batch of a round, if asked to; the samples are drawn by then.

        Not at the start of the epoch: Lightning leaves that hook out in a run that goes on from an epoch's last batch.
        """
        if self.restart and batch_idx == 0:
            path = self._folder(trainer) / "start.safetensors"
            if trainer.current_epoch == 0:
                save_start(pl_module, path)
            elif trainer.current_epoch % self.epochs == 0:
                go_back(pl_module, trainer.optimizers, path)

    def state_dict(self) -> dict[str, Any]:
        """Return the hashes of the rounds trained on."""
        return {"sealed": {str(n): h for n, h in self._feed.acknowledged.items()} if self._feed else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up which rounds were trained on, to be compared with the store."""
        if self._feed is not None:
            self._feed.acknowledged = {int(n): h for n, h in state_dict["sealed"].items()}

    @staticmethod
    def _folder(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "rounds"
