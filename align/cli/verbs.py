"""The verbs of the program, and what each is for."""

from __future__ import annotations

LIGHTNING_VERBS = {
    "fit": "train a method and export the model",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split",
    "predict": "score the validation split",
}
OTHER_VERBS = {
    "stages": "run the stages of a method one after another, such as RAHF's",
    "sweep": "steer a model by a vector at several strengths and measure its completions",
    "export-vectors": "write steering directions as a GGUF control vector for repeng and llama.cpp",
    "data": "show how a data file is read: its layout, three rows, unused columns, dropped rows",
    "doctor": "check a run before it starts: versions, model, memory, decoded examples, dropped rows",
    "generate": "sample completions from a model folder",
    "chat": "talk to a model in the terminal, or to two side by side",
    "rank": "fill lists up with other models' responses and rank them with a reward model",
    "evaluate": "rewards, text measures and a judge's verdicts on model folders",
    "benchmark": "AlpacaEval, lm-eval's tasks, TruthfulQA, RealToxicityPrompts, MT-bench, and reward models",
    "annotate": "a web page for blind human judgments, their export, and what they say",
    "report": "one HTML page and a Markdown table that compare runs",
    "probe": "differences between prompts that differ in one attribute",
    "directions": "ask a model for every direction it was trained under and measure what it reaches",
    "pareto": "compare models over two rewards: fronts, dominance, hypervolume",
    "rounds": "list the rounds of a run: rewards, acceptance, samples",
    "soup": "add up the weights of models, or the updates of adapters",
    "export": "write a model folder from a run's checkpoint, merged if asked",
    "push": "upload a model folder, or one of data, to the Hugging Face hub",
    "synthetic-base": "train the base model of the synthetic world from scratch",
    "synthetic-data": "write the synthetic world's data as files in the field's formats",
    "init-model": "make a small random Llama around a tokenizer, to try things out",
}
LOADS_MODELS = {
    *LIGHTNING_VERBS,
    *(
        "stages",
        "sweep",
        "doctor",
        "generate",
        "chat",
        "rank",
        "evaluate",
        "benchmark",
        "probe",
        "directions",
        "export",
    ),
}
"""Verbs that load a model, whose folder may bring code of its own."""
