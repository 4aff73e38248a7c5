"""Writes a table of sample completions to tensorboard."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from align.sampling.generation import Generation
from align.sampling.sampler import sample


class SampleTable(Callback):
    """Samples completions of a few validation prompts before training and after each validation run.

    Reward models have none; a sharded model is not sampled.
    """

    def __init__(self, num_prompts: int = 4, generation: Generation = Generation(max_new_tokens=64)) -> None:
        """Configure the table.

        Args:
            num_prompts: How many prompts: the first of the validation split, else of the training split.
            generation: How to draw.
        """
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
        module, data = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not (trainer.is_global_zero and loggers and getattr(module, "generates", False)):
            return
        if module.device_mesh is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        write_table(trainer, "samples", self.rows(module, data))

    def rows(self, module: Any, data: Any) -> list[tuple[str, str]]:
        """Return prompts and completions."""
        prompts = data.prompts(self.num_prompts)
        template = data.encoder.template
        with module.evaluating():
            samples = sample(
                module.model, module.tokenizer, prompts, self.generation, eos_ids=[template.eos_id], stop=template.stop
            )
        return [(module.tokenizer.decode(prompts[s.prompt], skip_special_tokens=False), s.text) for s in samples]


def write_table(trainer: Trainer, name: str, rows: list[tuple[str, str]]) -> None:
    """Write a table to every tensorboard log of the run."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, table(rows), global_step=trainer.global_step)


def table(rows: list[tuple[str, str]]) -> str:
    """Return a Markdown table; texts are escaped, so that nothing in them is taken for markup."""
    lines = ["| prompt | completion |", "|---|---|"]
    lines += [f"| {cell(prompt)} | {cell(completion)} |" for prompt, completion in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text for one cell: on one line, every character that HTML or Markdown could act on escaped."""
    return text.translate(_ESCAPES)


_ESCAPES = {ord(mark): f"&#{ord(mark)};" for mark in "&<>\"'|*_`[]()#!\\~"} | {ord("\n"): "<br>", ord("\r"): ""}
