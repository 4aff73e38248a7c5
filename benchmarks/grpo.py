"""A GRPO step on the same samples, TRL's and ours: `python -m benchmarks.grpo`."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from jsonargparse import auto_cli
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

from align.models.backbone import Backbone
from align.models.packed_attention import use_packed_attention
from align.models.small import word_tokenizer
from align.modules.group_policy import GroupPolicyModule
from align.objectives.policy_gradient import PolicyGradient
from align.records import CandidateBatch, EncodedGroup, SampledRound, Step
from align.training.rollouts import Rollouts


def run(
    prompt: int = 128, response: int = 64, *, samples: int = 16, prompts: int = 2, steps: int = 5, width: int = 512
) -> None:
    """Compute loss and gradient by turns, and print CPU seconds, their ratio and how far the losses are apart.

    Args:
        prompt: Tokens of a prompt.
        response: Mean tokens of a sample; they are drawn between a fifth of it and twice it.
        samples: Of each prompt.
        prompts: Of a step.
        steps: How often, after one that does not count.
        width: Of the model: 8 layers, a vocabulary of 32000.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=8, num_attention_heads=8
    )
    plain = LlamaForCausalLM(config)
    packed = copy.deepcopy(plain)
    groups = _groups(prompt, response, samples, prompts)
    advantages = np.random.default_rng(1).normal(size=samples * prompts)
    ours, theirs = _ours(packed, groups, advantages), _theirs(plain, groups, advantages)
    taken: dict[str, list[float]] = {"ours": [], "trl": []}
    losses = {}
    for step in range(steps + 1):
        for name, model, loss in (("ours", packed, ours), ("trl", plain, theirs)):
            model.zero_grad()
            began = time.process_time()
            value = loss()
            value.backward()
            losses[name] = value.item(), float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
            if step:
                taken[name].append(time.process_time() - began)
    own, other = median(taken["ours"]), median(taken["trl"])
    print(f"ours {own:.2f} CPU s, TRL {other:.2f} CPU s a step: {other / own:.2f} times; loss and norm {losses}")


def _groups(prompt: int, response: int, samples: int, prompts: int) -> list[EncodedGroup]:
    rng = np.random.default_rng(0)
    rows = []
    for n in range(prompts):
        lengths = rng.integers(response // 5, 2 * response, samples)
        drawn = [rng.integers(3, 32000, size).tolist() for size in lengths]
        ids, labels = rng.integers(3, 32000, prompt).tolist(), [[0.0, 1.0]] * samples
        rows.append(EncodedGroup(f"p{n}", ids, drawn, [0] * samples, labels, 1.0, [False] * samples))
    return rows


def _ours(model: Any, groups: list[EncodedGroup], advantages: np.ndarray) -> Any:
    use_packed_attention(model)
    module = GroupPolicyModule(Backbone("unused"), PolicyGradient())
    module.model, batch = model, CandidateBatch.of(groups, attributes=("reward", "finished"))
    sizes, lengths = np.array(batch.group_sizes), np.array(batch.response_lengths)
    ones = np.ones(len(lengths))
    more: dict[str, Any] = {"temperature": 1.0, "steps": 1, "batches": list, "path": Path("unused"), "sha256": ""}
    module.rollouts = Rollouts(SampledRound(0, batch.ids, sizes, lengths, ones, ones, **more))
    module.rollouts.columns = {"advantages": module.rollouts.by_token(advantages)}
    module._first_step = True

    def loss() -> torch.Tensor:
        module.begin_step(Step([batch]))
        return module.loss(batch, batch.totals)

    return loss


def _theirs(model: Any, groups: list[EncodedGroup], advantages: np.ndarray) -> Any:
    size = sum(len(g.response_ids) for g in groups)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=size,
            num_generations=size // len(groups),
            loss_type="grpo",
            beta=0.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * len(groups)),
        processing_class=word_tokenizer(["a"], []),
    )
    trainer.current_gradient_accumulation_steps = 1
    prompts = torch.tensor([g.prompt_ids for g in groups for _ in g.response_ids])
    responses = [torch.tensor(r) for g in groups for r in g.response_ids]
    inputs = {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": pad_sequence(responses, batch_first=True, padding_value=0),
        "completion_mask": pad_sequence([torch.ones_like(r) for r in responses], batch_first=True),
        "advantages": torch.from_numpy(advantages).float(),
    }
    return lambda: trainer._compute_loss(model.train(), inputs)


if __name__ == "__main__":
    auto_cli(run)
