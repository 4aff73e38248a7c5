"""Writes a table of sample completions to the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from align.callbacks.run_parts import data_of, policy_of
from align.data.data_module import PreferenceDataModule
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt
from align.evaluation.policy import Policy
from align.sampling.generation import Generation
from align.sampling.sampler import sample
from align.sampling.trained_module import TrainedModule


class SampleTable(Callback):
    """Samples completions of a few validation prompts before training and after each validation run.

    Reward models have none; a sharded model is not sampled.
    """

    writes_one_file = True  # of two in a run only the last counts

    def __init__(self, num_prompts: int = 4, generation: Generation = Generation(max_new_tokens=64)) -> None:
        """Configure the table.

        Args:
            num_prompts: How many prompts: the first of the validation split, else of the training split.
            generation: How to draw.
        """
        if num_prompts < 1:
            raise ConfigError(f"align.callbacks.samples.SampleTable: num_prompts must be at least 1, got {num_prompts}")
        self.num_prompts, self.generation = num_prompts, generation

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample from the model as it starts."""
        if trainer.global_step == 0:
            self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample from the model as it is."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wanted = any(takes_tables(logger) for logger in trainer.loggers)
        if not (trainer.is_global_zero and wanted and getattr(pl_module, "generates", False)):
            return
        module = policy_of(pl_module, self)
        if module.device_mesh is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        write_table(trainer, "samples", self.rows(module, data_of(trainer, self)))

    def rows(self, module: TrainedModule, data: PreferenceDataModule) -> list[tuple[str, str]]:
        """Return prompts and completions."""
        assert data.encoder is not None
        template = data.encoder.template
        ends: dict[str, Any] = {"eos_ids": [template.eos_id], "stop": template.stop, "said": template.said}
        prompts = self._asked(module, data) if module.asking.puts else data.prompts(self.num_prompts)
        with module.evaluating():
            samples = sample(module.model, module.tokenizer, prompts, self.generation, **ends)
        return [(module.tokenizer.decode(prompts[s.prompt], skip_special_tokens=False), s.text) for s in samples]

    def _asked(self, module: TrainedModule, data: PreferenceDataModule) -> list[list[int]]:
        """Return the ids of the prompts as the method asks its model."""
        assert data.encoder is not None
        examples = data.examples("val") or data.examples("train")
        chosen = list({e.messages: e for e in examples}.values())[: self.num_prompts]
        policy = Policy(module.model, module.tokenizer, data.encoder, [data.encoder.template.eos_id], module.asking)
        asked = policy.prompt_ids([EvaluationPrompt.of(e, e.source) for e in chosen], self.generation.max_new_tokens)
        return [ids for ids, _ in asked]


def takes_tables(logger: Logger) -> bool:
    """Tell whether a logger has a way to show texts; W&B's and the run folder's have `log_text`."""
    return isinstance(logger, TensorBoardLogger | MLFlowLogger) or hasattr(logger, "log_text")


def write_table(
    trainer: Trainer,
    name: str,
    rows: Sequence[Sequence[str]],
    columns: Sequence[str] = ("prompt", "completion"),
    *,
    step: int | None = None,
) -> None:
    """Write a table to every logger that shows texts; its step is the trainer's unless given."""
    step = trainer.global_step if step is None else step
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, table(rows, columns), global_step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_text(logger.run_id, table(rows, columns), f"{name}/step-{step}.md")
        elif hasattr(logger, "log_text"):
            logger.log_text(name, list(columns), [list(row) for row in rows], step=step)


def table(rows: Sequence[Sequence[str]], columns: Sequence[str] = ("prompt", "completion")) -> str:
    """Return a Markdown table; texts are escaped, so that nothing in them is taken for markup."""
    lines = [columns, *rows]
    written = [f"| {' | '.join(map(cell, line))} |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(columns), *written[1:]])


def cell(text: str) -> str:
    """Return text for one cell: on one line, every character that HTML or Markdown could act on escaped."""
    return text.translate(_ESCAPES)


_ESCAPES = {ord(mark): f"&#{ord(mark)};" for mark in "&<>\"'|*_`[]()#!\\~"} | {ord("\n"): "<br>", ord("\r"): ""}
