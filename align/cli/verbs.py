"""The verbs of the program, and what each is for. A verb is a module of its name, `data rank` that of `data_rank`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

SECTIONS: dict[str, dict[str, str]] = {
    "train": {
        "fit": "train a method and export the model",
        "validate": "evaluate a checkpoint on the validation split",
        "test": "evaluate a checkpoint on the test split",
        "predict": "score the validation split",
        "check": "look at a run before it starts: versions, model, memory, decoded examples, dropped rows",
        "run": "train in stages, each from the model of the one before, such as RAHF's",
        "study": "do the runs, measurements and tables of a study over seeds, from one YAML file",
        "show": "list the rounds of a run: rewards, acceptance, samples",
    },
    "ask": {
        "generate": "sample completions from a model folder",
        "chat": "talk to a model in the terminal, or to two side by side",
        "steer": "steer a model by vectors of its hidden states",
    },
    "measure": {
        "evaluate": "rewards, text measures and a judge's verdicts on model folders",
        "benchmark": "the field's benchmarks on our folders, from local files",
        "front": "what models reach between several rewards, and which of them dominates",
        "annotate": "a web page for blind human judgments, their export, and what they say",
        "report": "one HTML page and a Markdown table that compare runs",
    },
    "data and models": {
        "data": "look at data files before anything is trained on them, and make new ones",
        "init": "make a model folder: a small one from nothing, or one from a GGUF file",
        "merge": "add up the weights of models, or the updates of adapters",
        "export": "write a model folder from a run's checkpoint, merged if asked",
        "push": "upload a model folder, or one of data, to the Hugging Face hub",
    },
    "settings": {
        "config": "the configs that come with the package",
        "schema": "the JSON schema of a run's settings, by which editors complete and check them",
        "completion": "a script that lets the shell complete verbs and options",
    },
}
GROUPS: dict[str, dict[str, str]] = {
    "steer": {
        "sweep": "sample at several strengths of a vector and measure the completions",
        "export": "write vectors as a GGUF control vector for repeng and llama.cpp",
    },
    "benchmark": {
        "rewards": "reward models on pairs, best of n, or n by n (RewardBench 1 and 2, RM-Bench, your own files)",
        "preferences": "policies and reward models on held-out pairs and lists of the data they were trained on",
        "lm-eval": "any task of lm-eval (ifeval, gsm8k, mmlu, your own YAML) on models before and after training",
        "alpaca-eval": "win rates against a baseline, from annotations or from answers and a judge",
        "truthfulqa": "TruthfulQA MC1 and MC2, through lm-eval",
        "toxicity": "RealToxicityPrompts, through lm-eval, with a local classifier",
        "mt-bench": "a judge's ratings of MT-bench answers, by category and turn",
        "probe": "differences between prompts that differ in one attribute",
        "world": "exact rewards of models in the synthetic world, and their share of the optimum",
    },
    "front": {
        "measure": "ask a model for every direction it was trained under and measure what it reaches",
        "compare": "compare models over two rewards or more: fronts, dominance, hypervolume",
    },
    "annotate": {
        "serve": "the page: A/B/tie, or best and worst of several, and ratings; prints a link for every rater",
        "results": "wins, ties and losses with intervals, ratings, and the agreement of the raters",
        "export": "judgments as rows of prompt, chosen and rejected, as lists, or as rated responses",
    },
    "data": {
        "read": "show how a file is read: by which convention and why, three rows, unused columns, dropped rows",
        "export": "write what is read as pairs, lists, dialogues, ... in the field's columns, for other programs",
        "rank": "fill lists up with other models' responses and rank them with a reward model",
        "world": "write the synthetic world's data as files in the field's formats",
    },
    "config": {
        "list": "names and what each is for",
        "show": "print one",
        "copy": "put one into the current folder, to change it",
    },
    "init": {
        "model": "a small random Llama around a tokenizer",
        "gguf": "a folder from a GGUF file",
        "world": "the base model of the synthetic world, trained from scratch",
    },
}
"""Verbs with verbs of their own."""
LIGHTNING_VERBS = ("fit", "validate", "test", "predict")
FIT_VERBS = (*LIGHTNING_VERBS, "check", "run")
"""Verbs that take the options of `align fit`; all others are functions."""
LISTED = {verb: text for section in SECTIONS.values() for verb, text in section.items()}
ALIASES = {"doctor": "check"}
LOADS_MODELS = {
    *LIGHTNING_VERBS,
    *("check", "run", "generate", "chat", "evaluate", "export"),
    *("data rank", "steer sweep", "front measure", "front compare"),
    *(f"benchmark {name}" for name in GROUPS["benchmark"]),
}
"""Commands that load a model, whose folder may bring code of its own."""


def command_of(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words that name what is run: a verb, or one of a group's."""
    group = GROUPS.get(words[0], {})
    return tuple(words[:2]) if words[1:2] and words[1] in group else tuple(words[:1])


def commands() -> list[tuple[str, ...]]:
    """Return every command of the program that takes options."""
    found: list[tuple[str, ...]] = []
    for verb in LISTED:
        found += [(verb, below) for below in GROUPS.get(verb, ())] or [(verb,)]
    return found


def module_of(command: Sequence[str]) -> str:
    """Return the name of the module that a command is in."""
    if command[0] in LIGHTNING_VERBS:
        return "align.cli.lightning"
    return f"align.cli.{'_'.join(command).replace('-', '_')}"


def verb_list() -> str:
    """Return all verbs by section, and those that stand below a verb."""
    lines: list[str] = []
    for section, verbs in SECTIONS.items():
        lines += ["", section] if lines else [section]
        for verb, text in verbs.items():
            below = f" ({', '.join(GROUPS[verb])})" if verb in GROUPS else ""
            lines += textwrap.wrap(f"{text}{below}", 100, initial_indent=f"  {verb:<12}", subsequent_indent=" " * 14)
    return "\n".join(lines)


def group_help(group: str) -> str:
    """Return the help of a verb that has verbs of its own."""
    verbs = "\n".join(f"  {name:<13}{text}" for name, text in GROUPS[group].items())
    usage = f"usage: align {group} {'|'.join(GROUPS[group])} [options]"
    return f"{usage}\n\n{LISTED[group].capitalize()}.\n\n{verbs}\n\nalign {group} VERB --help   the options of one"
