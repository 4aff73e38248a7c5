"""Cost of a RAHF step: this module against the way of the released code, on one model and the same pairs.

python -m benchmarks.rahf_step [--layers 8] [--top 4] [--side ours|whole|four]

`ours` reads frozen states of one base up to the highest layer, head left out. `whole` is one base with every layer, the
head and all hidden states kept; `four` is that with a model of its own for good, bad, start and policy. Each side runs
in a process of its own, since peak memory is that of the process; without `--side` all run in turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from align.models.adapted import add_trained, usual_lora
from align.models.adapters import adapters_active, freeze_but
from align.models.response_states import response_states
from align.objectives.representation import RepresentationAlignment
from align.records import CandidateBatch, EncodedGroup

WIDTH, VOCABULARY, PROMPT, RESPONSE, PAIRS = 384, 8192, 126, 47, 8
"""Mean lengths of HH-RLHF harmless-base in 8k tokens."""
SIDES = ("ours", "whole", "four")


def model_of(layers: int) -> Any:
    """Return a random Llama of the shape of performance.md."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=6,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def batch_of(seed: int) -> CandidateBatch:
    """Return pairs of random tokens of the usual lengths."""
    draw = torch.Generator().manual_seed(seed)
    ids = lambda n: torch.randint(5, VOCABULARY, (n,), generator=draw).tolist()  # noqa: E731
    rest: dict[str, Any] = {"ranks": [0, 1], "scores": [[], []], "weight": 1.0, "truncated": [False] * 2}
    groups = [EncodedGroup(str(n), ids(PROMPT), [ids(RESPONSE), ids(RESPONSE)], **rest) for n in range(PAIRS)]
    return CandidateBatch.of(groups)


def ours(layers: int, top: int) -> Any:
    """Return a step of the shared-base kind."""
    targets, objective = list(range(2, top + 1)), RepresentationAlignment()
    lora = usual_lora(model := model_of(layers))
    model = add_trained(model, ["good", "bad", "default"], lora, blocks=top)
    freeze_but(model, ["good", "default"], ["default"])

    def frozen(batch: CandidateBatch, names: list[str]) -> torch.Tensor:
        with torch.no_grad(), adapters_active(model, names):
            return response_states(model, batch, targets).values

    def step(batch: CandidateBatch) -> torch.Tensor:
        good, bad = frozen(batch, ["good"]), frozen(batch, ["bad"])
        return objective(response_states(model, batch, targets).values, objective.target(good, good - bad)).mean()

    return model, step


def whole(layers: int, top: int, copies: int) -> Any:
    """Return a step that runs every layer and the head of each model over padded rows and keeps all hidden states."""
    targets, objective = list(range(2, top + 1)), RepresentationAlignment()
    settings = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], layers_to_transform=list(range(top)))
    model = get_peft_model(model_of(layers), settings)
    others = [model_of(layers) for _ in range(copies)] or [model.get_base_model()] * 3

    def states(of: Any, ids: torch.Tensor) -> torch.Tensor:
        hidden = of(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        return torch.stack([hidden[layer][:, -RESPONSE:] for layer in targets])

    def step(batch: CandidateBatch) -> torch.Tensor:
        prompts, responses = batch.prompt_ids.view(PAIRS, 1, -1), batch.response_ids.view(PAIRS, 2, -1)
        ids = torch.cat([prompts.expand(-1, 2, -1), responses], 2).flatten(0, 1)
        with torch.no_grad(), model.disable_adapter():
            good, bad, start = (states(other, ids) for other in others)
        return objective(states(model, ids), objective.target(start, good - bad)).mean()

    return model, step


def measure(side: str, layers: int, top: int, steps: int) -> dict[str, Any]:
    """Run one side and return seconds of CPU per step and peak memory."""
    model, step = ours(layers, top) if side == "ours" else whole(layers, top, 3 if side == "four" else 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    spent = []
    for number in range(steps + 1):
        batch, began = batch_of(number), time.process_time()
        step(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        spent.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"side": side, "cpu_s_per_step": sorted(spent[1:])[steps // 2], "peak_gb": round(peak, 2)}


def main() -> None:
    """Run the sides asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--top", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--side", choices=SIDES)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, given.layers, given.top, given.steps)))
        return
    shape = ["--layers", str(given.layers), "--top", str(given.top), "--steps", str(given.steps)]
    for side in SIDES:
        subprocess.run([sys.executable, "-m", "benchmarks.rahf_step", *shape, "--side", side], check=True)


if __name__ == "__main__":
    main()
