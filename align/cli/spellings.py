"""Settings by the names they have elsewhere: the error says how a verb spells what was meant."""

from __future__ import annotations

from collections.abc import Mapping

_ANSWERS = (
    "a model is asked by `align generate --model.path DIR --answers {0} --prompts {1} --out answers.{2}`, then name "
    "--answers [answers.{2}]"
)
_MT_BENCH = _ANSWERS.format("mt_bench", "question.jsonl", "jsonl")
_ALPACA_EVAL = _ANSWERS.format("alpaca_eval", "alpaca_eval.json", "json")
_RESPONDER = "the benchmark has its own prompt, name who answers it: --responder Endpoint or LocalModel"
_ONE = "it ranks by one reward model, --rewards DIR; several in one are --scorer RewardEnsemble with --scorer.scorers"
_LIST = "name the folders in a list, --models [DIR,DIR]"
_MODELS = "name them in a list, --models [DIR], or by names, --models.NAME DIR"
_FIRST = "the models are the first words, align chat MODEL [MODEL], or --models [A,B]"
INSTEAD: Mapping[str, Mapping[str, str]] = {
    "benchmark alpaca-eval": {"models": _ALPACA_EVAL, "model": _ALPACA_EVAL},
    "benchmark lm-eval": {"model": _MODELS},
    "benchmark mt-bench": {"models": _MT_BENCH, "model": _MT_BENCH, "judge": _RESPONDER},
    "benchmark rewards": {"reward": _LIST, "rewards": _LIST, "model": _LIST},
    "evaluate": {
        "model": _MODELS,
        "responder": "it belongs to a judge: --judge LanguageJudge --judge.responder Endpoint or LocalModel",
    },
    "chat": {"model": _FIRST, "model_b": _FIRST},
    "data rank": {
        "reward": _ONE,
        "models": _ONE,
        "model": _ONE,
        "max_tokens": "it is --reward_tokens now",
        "judge": "name --scorer WinRates and its --scorer.judge",
    },
    "front compare": {
        "model": _MODELS,
        "rewards": "the rewards that are compared are --attributes [helpfulness,-verbosity], a reward model that "
        "scores is --scorer RewardFolder with --scorer.path DIR",
    },
    "front measure": {"rewards": "a reward model is --scorer RewardFolder with --scorer.path DIR"},
    "merge": {"model": _MODELS},
    "steer export": {"direction": "it is --vector now"},
}
"""What to write in place of a setting that a verb does not have, by its first word."""
