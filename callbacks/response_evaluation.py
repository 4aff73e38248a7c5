"""Evaluates responses of a policy while it trains: what its kinds share."""

from __future__ import annotations

import itertools
import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from align.callbacks.run_parts import data_of, policy_of
from align.callbacks.samples import write_table
from align.errors import ConfigError
from align.evaluation.completions import EvaluatedCompletion, EvaluationPrompt
from align.evaluation.policy import Policy
from align.records import Example
from align.sampling.generation import Generation
from align.sampling.trained_module import TrainedModule
from align.strict_json import json_text


class ResponseEvaluation(Callback):
    """Samples on fixed held-out prompts before training and after each validation run, and measures the responses.

    The policy is asked as its method asks it: under the good instruction or marker, or a direction, where it has one.
    Appends what it finds to a file of its name in the run folder, one line per step; a step is not evaluated twice.
    """

    name: str

    def __init__(self, num_prompts: int, generation: Generation) -> None:
        if num_prompts < 1:
            name = f"align.callbacks.evaluation.{type(self).__name__}"
            raise ConfigError(f"{name}: num_prompts must be at least 1, got {num_prompts}")
        self.num_prompts, self.generation = num_prompts, generation
        self._prompts: list[EvaluationPrompt] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the prompts and evaluate the model the run starts from."""
        if getattr(pl_module, "device_mesh", None) is not None:
            raise ConfigError(f"align.callbacks.evaluation.{type(self).__name__} cannot sample from a sharded model")
        module = policy_of(pl_module, self)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = {e.messages: e for e in in_turns(data_of(trainer, self).examples("val"), self.num_prompts)}
        self._prompts = [EvaluationPrompt.of(example, example.source) for example in found.values()]
        if not self._prompts:
            raise ConfigError(f"align.callbacks.evaluation.{type(self).__name__} needs a validation split")
        self._evaluate(trainer, module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the model as it is."""
        if self._prompts and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._evaluate(trainer, policy_of(pl_module, self))

    @abstractmethod
    def measure(
        self, prompts: Sequence[EvaluationPrompt], completions: Sequence[EvaluatedCompletion]
    ) -> dict[str, float]:
        """Return what to log of the responses."""

    def further(self, policy: Policy) -> dict[str, float]:
        """Return what else to log, of responses sampled in other ways."""
        return {}

    def _evaluate(self, trainer: Trainer, module: TrainedModule) -> None:
        file = Path(trainer.default_root_dir) / f"{self.name}.jsonl"
        done = [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []
        if trainer.global_step in done:
            return
        encoder = data_of(trainer, self).encoder
        assert encoder is not None
        policy = Policy(module.model, module.tokenizer, encoder, [encoder.template.eos_id], module.asking)
        completions = policy.complete(self._prompts, self.generation)
        values = self.measure(self._prompts, completions) | self.further(policy)
        for logger in trainer.loggers:
            logger.log_metrics({f"{self.name}/{k}": v for k, v in values.items()}, step=trainer.global_step)
        rows = [(self._prompts[c.prompt].messages[-1].content, c.text) for c in completions[:8]]
        write_table(trainer, f"{self.name}/samples", rows)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            asked = {"asked": module.asking.told} if module.asking.told else {}
            print(json_text({"step": trainer.global_step, **values, **asked}), file=stream)


def in_turns(examples: Sequence[Example], count: int) -> list[Example]:
    """Return the first examples, one of every source after the other: files of several subsets stand in a row."""
    sources: dict[str, list[Example]] = {}
    for example in examples:
        sources.setdefault(example.source, []).append(example)
    rounds = itertools.zip_longest(*sources.values())
    return [example for turn in rounds for example in turn if example is not None][:count]
