"""Trains on data the policy makes itself, round by round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from align.callbacks.run_parts import policy_of
from align.data.data_module import PreferenceDataModule
from align.errors import ConfigError
from align.rewards.components import Training
from align.rewards.scorers import Direction, Scorer
from align.rounds.conditioning_schedule import ConditioningSchedule
from align.rounds.mixing import Replay
from align.rounds.refused_conditions import check_drawn
from align.rounds.round_loader import RoundLoader
from align.rounds.round_starts import RoundStarts
from align.rounds.sampled_rounds import OnlineMethod, check_online
from align.rounds.schedule import set_schedule, steps_of_round
from align.rounds.selections import Selection
from align.rounds.settings import RoundSettings
from align.rounds.weights import follows_rounds, refuse_following
from align.sampling.engine_kind import EngineKind
from align.sampling.generation import Generation
from align.sampling.logit_mixture import LogitMixture
from align.sampling.server_pool import ServerPool
from align.sampling.trained_module import TrainedUnder

PAIR = Generation(num_samples=2, temperature=0.9)
PLACE = "align.callbacks.resampling.IterativeResampling"


class IterativeResampling(Callback):
    """Replaces the training data by rounds: sample from the policy, score, select, seal, train; then the next round.

    A round is made when its first epoch begins, with the weights of that moment, and kept in `rounds/` of the run with
    its samples and rewards (`align show RUN`). A method's reference stays what it is, unless it is PreviousRound.
    """

    def __init__(  # noqa: PLR0913
        self,
        scorer: Scorer,
        selection: Selection,
        *,
        generation: Generation = PAIR,
        direction: Direction = Direction(),
        prompts: int | None = None,
        epochs: int = 1,
        replay: Replay | None = None,
        missing_eos_penalty: float | None = None,
        restart: bool = False,
        fresh_optimizer: bool = False,
        keep_models: bool = False,
        alternate_halves: bool = False,
        conditions: ConditioningSchedule | None = None,
        engine: ServerPool | EngineKind | None = None,
        mixture: LogitMixture | None = None,
        whole_weights: bool = False,
        refills: int = 0,
        parts: int | None = None,
        ahead: int = 0,
    ) -> None:
        """Configure rounds.

        Args:
            scorer: What the samples are worth.
            selection: What is made of them.
            generation: How to sample; its seed is added to the run's.
            direction: Which reward its scores make.
            prompts: Prompts of a round, the next ones of a shuffled order each time; null takes all.
            epochs: Epochs of a round.
            replay: Records of the data to mix in; null trains on samples alone.
            missing_eos_penalty: Subtracted from the reward of a sample cut off at its limit; null leaves it out.
            restart: Begin every round with the weights the run started from, a fresh optimiser and a fresh schedule.
            fresh_optimizer: Begin every round with a fresh optimiser and a fresh schedule, the weights going on.
            keep_models: With restart, write the model of each round but the last to `rounds/model-NUMBER`.
            alternate_halves: Draw the prompts from the two halves of the data by turns.
            conditions: Sample and train under directions, as DPA does; needs DPARSFModule.
            engine: What samples in the place of our own engine, given each round's weights: servers by their `urls`
                (vLLM and SGLang, adapters or all weights, `transformers serve` whole folders); null is our own.
            mixture: Draw samples from the method's reference too, its logits added to the policy's by a share.
            whole_weights: Under FSDP2 gather the model whole (in memory, too) for each batch, not block by block.
            refills: How often prompts whose samples give no record (DAPO's `skip_equal`, ties of pairs) are replaced by
                the next ones, which are drawn until the round has `prompts` of them; 0 trains on what is left.
            parts: In the place of `prompts`: cut them into so many parts without a common one, each for the next round.
            ahead: 1 has servers draw each round while the one before is trained on, by the weights that one began with;
                the loss of online RL is corrected for it. 0 waits for every round.
        """
        if epochs < 1:
            raise ConfigError(f"{PLACE}: epochs must be at least 1, got {epochs}")
        if keep_models and not restart:
            raise ConfigError(f"{PLACE}: keep_models needs restart, or no model is lost")
        if restart and fresh_optimizer:
            raise ConfigError(f"{PLACE}: restart has a fresh optimiser: leave fresh_optimizer out")
        self.epochs, self.restart = epochs, restart
        self.keep_models, self.fresh_optimizer = keep_models, fresh_optimizer
        self.settings = RoundSettings(
            scorer,
            selection,
            generation,
            direction,
            prompts=prompts,
            replay=replay,
            missing_eos_penalty=missing_eos_penalty,
            alternate_halves=alternate_halves,
            conditions=conditions,
            engine=engine,
            mixture=mixture,
            whole_weights=whole_weights,
            refills=refills,
            parts=parts,
            ahead=ahead,
        )
        self._rounds: RoundLoader | None = None
        self._begun: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the data module ask for rounds, and Lightning ask the data module at every epoch."""
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        if not getattr(pl_module, "generates", False) or not isinstance(data, PreferenceDataModule):
            raise ConfigError(f"{PLACE} needs a policy and one of our data modules")
        if self.settings.mixture is not None and not hasattr(type(pl_module), "reference_scores"):
            raise ConfigError(f"{PLACE}.mixture needs a reference, {type(pl_module).__name__} has none: leave it out")
        if self.restart:
            refuse_following(pl_module)
        data.refuse_stream(f"{PLACE}, which chooses among the prompts,")
        if (trainer.max_epochs or -1) > 0:
            check_drawn(self.settings, (cast(int, trainer.max_epochs) - 1) // self.epochs)
        self.settings.check_win_rates(getattr(pl_module, "view", None))
        check_online(pl_module, self.settings)
        training = Training()
        self.settings.prepare_scorer(training)
        for name, world in data.worlds.items():
            self.settings.scorer.check_world(name, world)
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
        generation = replace(self.settings.generation, seed=self.settings.generation.seed + data.run_seed)
        settings = replace(self.settings, generation=generation)
        self._rounds = data.training_source = RoundLoader(
            trainer, data, self._folder(trainer), settings, epochs=self.epochs, training=training
        )
        self._rounds.engine.check(policy_of(pl_module, self))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a round at its first batch; the samples are drawn by then.

        Not at the start of the epoch: Lightning leaves that hook out in a run that goes on from an epoch's last batch.
        """
        assert self._rounds is not None
        module, starts = policy_of(pl_module, self), RoundStarts(self._folder(trainer))
        number, first = self._rounds.number, batch_idx == 0 and trainer.current_epoch % self.epochs == 0
        self._rounds.draw_ahead(first=first)
        if self.restart and first:
            before = self._rounds.note(number - 1)
            starts.restart(module, trainer.optimizers, number, keep=self.keep_models, note=before)
        if self.fresh_optimizer and first:
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
        if self._begun != number and follows_rounds(pl_module):
            starts.follow(pl_module, number, first=first)
        if (self.restart or self.fresh_optimizer) and self._begun != number:
            set_schedule(trainer, module.optimizer, steps_of_round(trainer, self.epochs), anew=first)
        if self._begun != number and self.settings.conditions is not None:
            cast(TrainedUnder, module).train_under(self._rounds.note(number))
        if self._begun != number and isinstance(pl_module, OnlineMethod):
            pl_module.begin_round(self._rounds.sampled(), first=first)
        self._begun = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Keep what servers have drawn ahead."""
        assert self._rounds is not None
        self._rounds.ahead.keep()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ask servers for nothing more."""
        if self._rounds is not None:
            self._rounds.ahead.stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what was written for servers."""
        assert self._rounds is not None
        self._rounds.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the hashes of the rounds trained on."""
        return {"sealed": {str(n): h for n, h in self._rounds.acknowledged.items()} if self._rounds else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up which rounds were trained on, to be compared with the store."""
        if self._rounds is not None:
            self._rounds.acknowledged = {int(n): h for n, h in state_dict["sealed"].items()}

    @staticmethod
    def _folder(trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "rounds"
