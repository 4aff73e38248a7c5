"""Writes a few of the samples that a step trains on, with their rewards and advantages, to the loggers."""

from __future__ import annotations

from typing import Any, Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from align.callbacks.samples import takes_tables, write_table
from align.errors import ConfigError
from align.evaluation.run_log import ROLLOUTS
from align.records import TakenSample

PLACE = "align.callbacks.rollout_table.RolloutTable"


class LeftSamples(Protocol):
    """Samples of the next micro-batch, left for others."""

    size: tuple[int, int] | None
    """How many prompts, and samples of each; null where none are asked for."""
    found: list[TakenSample]


class TakesSamples(Protocol):
    """A method that trains on its own samples."""

    @property
    def to_take(self) -> LeftSamples:
        """Return where a step leaves some."""

    @property
    def tokenizer(self) -> Any:
        """Return the backbone's tokenizer."""


class RolloutTable(Callback):
    """Shows samples as they are trained on: prompt, response, reward and the scores behind it, advantage, divergence.

    They are the first of what the first process computes in a step, and stand in tensorboard (text, `rollouts`), in
    `samples.jsonl` of the run folder, and in the report. Nothing is sampled for it.
    """

    writes_one_file = True  # of two in a run only the last counts

    def __init__(
        self,
        every_n_steps: int | None = 25,
        *,
        num_prompts: int = 2,
        num_samples: int = 4,
        max_characters: int | None = 600,
    ) -> None:
        """Configure the table.

        Args:
            every_n_steps: Steps between two tables, the first one at step 0; null writes none.
            num_prompts: Prompts of a table; a micro-batch may have fewer.
            num_samples: Samples of each.
            max_characters: Longest text: of a prompt its end is shown, of a response its start; null cuts none.
        """
        for name, value in (("every_n_steps", every_n_steps), ("max_characters", max_characters)):
            if value is not None and value < 1:
                raise ConfigError(f"{PLACE}: {name} must be at least 1 or null, got {value}")
        if num_prompts < 1 or num_samples < 1:
            raise ConfigError(
                f"{PLACE}: num_prompts and num_samples must be at least 1, got {num_prompts}, {num_samples}"
            )
        self.every_n_steps, self.max_characters = every_n_steps, max_characters
        self.size = (num_prompts, num_samples)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a method that does not train on samples as they were drawn."""
        if not hasattr(pl_module, "to_take"):
            raise ConfigError(
                f"{PLACE} is for methods that train on their own samples, such as GRPO and PPO: leave it out"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Have the step leave a few samples, where it is its turn."""
        every = self.every_n_steps
        wanted = trainer.is_global_zero and any(takes_tables(logger) for logger in trainer.loggers)
        if every is not None and wanted and trainer.global_step % every == 0:
            cast(TakesSamples, pl_module).to_take.size = self.size

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what the step has left."""
        module = cast(TakesSamples, pl_module)
        taken, module.to_take.found = module.to_take.found, []
        if not taken:
            return
        names = [name for name in taken[0].labels if name != "finished"]
        columns = ["prompt", "response", *names, "finished", "advantage", "kl"]
        rows = [self._row(module.tokenizer, sample, names) for sample in taken]
        write_table(trainer, ROLLOUTS, rows, columns, step=trainer.global_step - 1)  # that of the step's curves

    def _row(self, tokenizer: Any, sample: TakenSample, names: list[str]) -> list[str]:
        prompt = tokenizer.decode(sample.prompt_ids, skip_special_tokens=False)
        response = tokenizer.decode(sample.response_ids, skip_special_tokens=False)
        most = self.max_characters
        if most is not None and len(prompt) > most:
            prompt = f"({len(prompt) - most} characters before) {prompt[-most:]}"
        if most is not None and len(response) > most:
            response = f"{response[:most]} ({len(response) - most} characters more)"
        finished = sample.labels.get("finished")
        ended = "" if finished is None else "yes" if finished else "no"
        numbers = [f"{sample.labels[name]:.4g}" for name in names]
        kl = "" if sample.kl is None else f"{sample.kl:.4g}"
        return [prompt, response, *numbers, ended, f"{sample.advantage:.4g}", kl]
