"""From a model and a batch to log-probabilities, or to the hidden states a reward head reads."""

from align.scoring.responses import TokenScores, last_hidden, plan, score_responses, score_tokens

__all__ = ["TokenScores", "last_hidden", "plan", "score_responses", "score_tokens"]
