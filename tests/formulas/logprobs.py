"""Response log-probabilities from a plain transformers forward over each candidate alone, full logits and a loop."""

from __future__ import annotations

from typing import Any

import torch

from align.records import CandidateBatch


def plain_logprobs(model: Any, batch: CandidateBatch, score_prompts: bool = False) -> torch.Tensor:
    prompts = torch.split(batch.prompt_ids, list(batch.prompt_lengths))
    responses = torch.split(batch.response_ids, list(batch.response_lengths))
    sums = []
    for candidate, response in enumerate(responses):
        prompt = prompts[batch.prompt_of[candidate]]
        ids = torch.cat([prompt, response])
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        total = logits.new_zeros(())
        for position in range(1 if score_prompts else len(prompt), len(ids)):
            total = total + logits[position - 1].log_softmax(-1)[ids[position]]
        sums.append(total)
    return torch.stack(sums)
