"""What is watched while a policy trains on its own samples."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from align.objectives.policy_gradient import kl_estimate
from align.records import CandidateBatch, SampledTokens, TakenSample
from align.training.recording import RecordingModule


def record_samples(
    module: RecordingModule, batch: CandidateBatch, tokens: SampledTokens, clipped: Bool[Tensor, " token"]
) -> None:
    """Record rewards and lengths of samples, entropy and divergences per token, and the share of clipped tokens."""
    weights, rewards = batch.candidate_weights(), batch.labels("reward")
    own = tokens.on_tokens(weights) * tokens.counted
    module.record("reward", rewards, weights)
    module.record("reward_spread", _spread(batch.matrix(rewards), batch.mask(rewards.device)), batch.weights)
    module.record("finished", batch.labels("finished"), weights)
    module.record("length", tokens.counts, weights)
    module.record("entropy", tokens.entropies.detach(), own)
    module.record("ratio", (tokens.logprobs.detach() - tokens.old_logprobs).exp(), own)
    module.record("clip_ratio", clipped.to(own.dtype), own)
    with torch.no_grad():
        module.record("old_kl", kl_estimate("k3", tokens.old_logprobs, tokens.logprobs), own)
        if tokens.reference_logprobs is not None:
            module.record("kl", kl_estimate("k3", tokens.logprobs, tokens.reference_logprobs), own)


class SamplesToTake:
    """Takes the first samples of the next micro-batch once a size is set, to be looked at."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        """How many prompts, and samples of each."""
        self.found: list[TakenSample] = []

    def looked_at(self, batch: CandidateBatch, tokens: SampledTokens) -> SampledTokens:
        """Return the tokens of a batch, of which samples are taken where they are asked for."""
        if self.size is not None and not batch.padding:
            self.found, self.size = taken_samples(batch, tokens, *self.size), None
        return tokens


@torch.no_grad()
def taken_samples(batch: CandidateBatch, tokens: SampledTokens, prompts: int, samples: int) -> list[TakenSample]:
    """Return the first samples of the first prompts of a batch, as a step trains on them."""
    lengths = tokens.sums(torch.ones_like(tokens.advantages))
    advantages, kl = (tokens.sums(tokens.advantages) / lengths).tolist(), None
    if tokens.reference_logprobs is not None:
        estimates = kl_estimate("k3", tokens.logprobs, tokens.reference_logprobs)
        kl = (tokens.sums(estimates) / lengths).tolist()
    asked = [ids.tolist() for ids in torch.split(batch.prompt_ids, list(batch.prompt_lengths))]
    responses, scores = torch.split(batch.response_ids, list(batch.response_lengths)), batch.scores.tolist()
    found, first = [], 0
    for size in batch.group_sizes[:prompts]:
        found += [
            TakenSample(
                asked[batch.prompt_of[place]],
                responses[place].tolist(),
                dict(zip(batch.attributes, scores[place], strict=True)),
                advantages[place],
                None if kl is None else kl[place],
            )
            for place in range(first, first + min(size, samples))
        ]
        first += size
    return found


def log_round(module: RecordingModule, told: dict[str, float]) -> None:
    """Log what a round is like as a whole, when it begins."""
    for logger in module.trainer.loggers if told else ():
        logger.log_metrics({f"train/{name}": value for name, value in told.items()}, step=module.trainer.global_step)


def _spread(
    rewards: Float[Tensor, "group candidate"], mask: Bool[Tensor, "group candidate"]
) -> Float[Tensor, " group"]:
    """Return the deviation of the rewards of each group, NaN of a sample alone."""
    counts = mask.sum(1)
    means = (rewards * mask).sum(1) / counts
    squares = ((rewards - means[:, None]) * mask).square().sum(1)
    return (squares / (counts - 1)).sqrt().where(counts > 1, torch.nan)
