"""`align benchmark NAME`: the field's benchmarks on our folders, from local files."""

from __future__ import annotations

import importlib

from align.errors import ConfigError, did_you_mean

BENCHMARKS = {
    "rewards": "reward models on pairs, best of n, or n by n (RewardBench 1 and 2, RM-Bench, your own files)",
    "lm-eval": "any task of lm-eval (ifeval, gsm8k, mmlu, your own YAML) on models before and after training",
    "alpaca-eval": "win rates against a baseline, from annotations or from answers and a judge",
    "truthfulqa": "TruthfulQA MC1 and MC2, through lm-eval",
    "toxicity": "RealToxicityPrompts, through lm-eval, with a local classifier",
    "mt-bench": "a judge's ratings of MT-bench answers, by category and turn",
}


def run(words: list[str]) -> int:
    """Run one benchmark."""
    if not words or words[0] in ("-h", "--help"):
        names = "\n".join(f"  {name:<12}{text}" for name, text in BENCHMARKS.items())
        print(f"usage: align benchmark NAME [options]\n\n{names}\n\nalign benchmark NAME --help   the options of one")
        return 0
    if words[0] not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise ConfigError(f"benchmark {words[0]!r} is unknown{did_you_mean(words[0], BENCHMARKS)}: there are {known}")
    module = importlib.import_module(f"align.cli.benchmark_{words[0].replace('-', '_')}")
    code: int = module.run(words[1:])
    return code
