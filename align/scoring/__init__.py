"""From a model and a batch to log-probabilities, or to the hidden states a reward head reads."""

from align.scoring.responses import (
    TokenScores,
    TokenStates,
    last_hidden,
    plan,
    read_sampled,
    read_tokens,
    score_responses,
    score_tokens,
    sum_tokens,
    token_states,
)

__all__ = [
    "TokenScores",
    "TokenStates",
    "last_hidden",
    "plan",
    "read_sampled",
    "read_tokens",
    "score_responses",
    "score_tokens",
    "sum_tokens",
    "token_states",
]
