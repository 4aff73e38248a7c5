"""TRL on the batches that `align fit` trains on: `python -m benchmarks.trl_side --method dpo --flags best`."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any, Literal

import torch
import trl.trainer.utils
from datasets import Dataset
from jsonargparse import auto_cli
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from align.data.batching import Batching
from align.data.encoding import EncodingConfig
from align.data.preference_file import PreferenceFileDataModule
from align.data.splits import Splits
from align.models.backbone import Backbone
from align.modules.dpo import DPOModule
from align.modules.reward_model import RewardModel
from align.modules.sft import SFTModule
from align.training.base_module import AlignModule
from benchmarks.meter import WARM_UP, TRLMeter, Work

Method = Literal["dpo", "reward_model", "sft"]
Flags = Literal["default", "best"]
Row = tuple[list[int], ...]
"""A prompt, then its responses."""
MODULES: dict[Method, type[AlignModule]] = {"dpo": DPOModule, "reward_model": RewardModel, "sft": SFTModule}


def run(method: Method, flags: Flags, *, folder: str = "runs/benchmarks", batch: int = 8, seed: int = 0) -> None:
    """Train over one epoch and print a line of measurements.

    Args:
        method: What to train.
        flags: TRL as it is configured by default (gradient checkpointing, reference at every step, random order), or
            its fastest settings (no checkpointing, cached reference, batches of similar length, head at response
            positions as TRL does on a GPU).
        folder: What `benchmarks.prepare` wrote.
        batch: Pairs per step.
        seed: Seed of the order of `align fit`.
    """
    best = flags == "best"
    pairs = batches_of(method, Path(folder), batch, seed)
    if not best:
        random.Random(seed).shuffle(pairs)
    else:
        pairs = by_length(pairs, batch, seed)
        trl.trainer.utils._use_triton = lambda device: True  # drop masked positions before the head, as on a GPU
    measured = pairs[WARM_UP * batch :]
    options: dict[str, Any] = {
        "output_dir": f"{folder}/trl",
        "per_device_train_batch_size": batch,
        "max_steps": len(pairs) // batch,
        "gradient_checkpointing": not best,
        "train_sampling_strategy": "sequential",
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "max_length": 4096,
        "logging_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    sides = {"dpo": dpo_trainer, "reward_model": reward_trainer, "sft": sft_trainer}
    trainer = sides[method](Path(folder) / "model", pairs, options, best=best)
    work = Work([len(prompt) for prompt, *_ in measured], [list(map(len, responses)) for _, *responses in measured])
    trainer.add_callback(TRLMeter(work, padding(measured, batch)))
    trainer.train()


def batches_of(method: Method, folder: Path, batch: int, seed: int) -> list[Row]:
    """Return prompt and responses in the order in which `align fit` trains on them, as token ids."""
    encoding = EncodingConfig(truncation="rm", cache_dir=str(folder / "cache"))
    options = {
        "batching": Batching(groups=batch, tokens=10**9),
        "splits": Splits(0),
        "encoding": encoding,
        "seed": seed,
    }
    data = PreferenceFileDataModule(str(folder / "pairs.jsonl"), **options)
    data.connect(MODULES[method](Backbone(str(folder / "model"))))
    pairs: list[Row] = []
    for (one,) in data.train_dataloader():  # a step is one micro-batch
        prompts = torch.split(one.prompt_ids, list(one.prompt_lengths))
        responses = iter(torch.split(one.response_ids, list(one.response_lengths)))
        for prompt, size in zip(prompts, one.group_sizes, strict=True):
            pairs.append((prompt.tolist(), *(next(responses).tolist() for _ in range(size))))
    return pairs


def by_length(pairs: list[Row], batch: int, seed: int) -> list[Row]:
    """Return the measured pairs in batches of similar length, as `group_by_length` makes them, in a random order."""
    first, rest = pairs[: WARM_UP * batch], pairs[WARM_UP * batch :]
    rest.sort(key=lambda row: len(row[0]) + max(map(len, row[1:])))
    batches = [rest[start : start + batch] for start in range(0, len(rest), batch)]
    random.Random(seed).shuffle(batches)
    return [*first, *(row for one in batches for row in one)]


def padding(pairs: list[Row], batch: int) -> float:
    """Return the share of padding in batches of rows."""
    slots = held = 0
    for first in range(0, len(pairs), batch):
        rows = [len(p) + len(r) for p, *responses in pairs[first : first + batch] for r in responses]
        slots, held = slots + len(rows) * max(rows), held + sum(rows)
    return 1 - held / slots


def dpo_trainer(model: Path, pairs: list[Row], options: dict[str, Any], *, best: bool) -> DPOTrainer:
    """Return a DPO trainer on ready token ids."""
    policy = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False)
    rows = Dataset.from_list([{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in pairs])
    DPOTrainer._prepare_dataset = _as_it_is
    args = DPOConfig(**options, precompute_ref_log_probs=best)
    reference = None if best else copy.deepcopy(policy)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    return DPOTrainer(policy, ref_model=reference, args=args, train_dataset=rows, processing_class=tokenizer)


def reward_trainer(model: Path, pairs: list[Row], options: dict[str, Any], *, best: bool) -> RewardTrainer:
    """Return a reward trainer on ready token ids."""
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    scorer = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, trust_remote_code=False)
    scorer.config.pad_token_id = tokenizer.pad_token_id
    rows = Dataset.from_list([{"chosen_ids": p + c, "rejected_ids": p + r} for p, c, r in pairs])
    RewardTrainer._prepare_dataset = _as_it_is
    return RewardTrainer(scorer, args=RewardConfig(**options), train_dataset=rows, processing_class=tokenizer)


def sft_trainer(model: Path, pairs: list[Row], options: dict[str, Any], *, best: bool) -> SFTTrainer:
    """Return an SFT trainer on ready token ids of the chosen responses."""
    rows = [{"input_ids": p + c, "completion_mask": [0] * len(p) + [1] * len(c)} for p, c in pairs]
    args = SFTConfig(**options, completion_only_loss=True)
    tokenizer, policy = (
        AutoTokenizer.from_pretrained(model, trust_remote_code=False),
        AutoModelForCausalLM.from_pretrained(model, trust_remote_code=False),
    )
    return SFTTrainer(policy, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def _as_it_is(self: Any, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
    return dataset


if __name__ == "__main__":
    auto_cli(run, as_positional=False)
