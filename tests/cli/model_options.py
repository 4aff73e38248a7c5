"""Words for the settings that verbs share: the model they ask, and how completions are drawn."""

from __future__ import annotations

MODEL = {
    "model.path": ("--model.path", "THINGS/other"),
    "model.dtype": ("--model.dtype", "bfloat16"),
    "model.lora": ("--model.lora.r", "4"),
    "model.attn_implementation": ("--model.attn_implementation", "nosuch"),
    "model.gradient_checkpointing": ("--model.gradient_checkpointing", "true"),
    "model.dropout": ("--model.dropout", "true"),
    "model.layout": ("--model.layout", "padded"),
    "model.logit_bytes": ("--model.logit_bytes", "1000"),
    "model.compile": ("--model.compile", "true"),
    "model.random_init": ("--model.random_init", "true"),
    "model.quantization": ("--model.quantization", "nf4"),
    "model.revision": ("--model.revision", "abc"),
    "model.tokenizer": ("--model.tokenizer", "THINGS/two"),
    "model.check": ("--model.check", "false"),
    "model.chat_template": ("--model.chat_template", "THINGS/template.jinja"),
}
TRAINING = "model.lora model.gradient_checkpointing model.dropout model.layout model.logit_bytes model.compile"
MODEL_REFUSED = {
    **{("*", name): "belongs to training" for name in TRAINING.split()},
    ("*", "model.revision"): "is a commit of a hub repository",
    ("*", "model.attn_implementation"): "nosuch",
}
STEERED = ("--ask.steer", "THINGS/vectors.safetensors", "--ask.coefficient", "9")
UNDER = ("--ask.under", "negative")
ASK = {
    "ask.direction": ("--ask.direction", "1,0"),
    "ask.angle": ("--ask.angle", "-1"),
    "ask.ratings": ("--model.path", "THINGS/rated", "--ask.ratings", "11,12"),
    "ask.under": UNDER,
    "ask.instructions": (*UNDER, "--ask.instructions.negative", "Be rude."),
    "ask.system": ("--ask.system", "Be brief."),
    "ask.chat_template_kwargs": ("--ask.chat_template_kwargs", "{loud: true}"),
    "ask.steer": STEERED,
    "ask.vector": (*STEERED, "--ask.vector", "pca"),
    "ask.layers": (*STEERED, "--ask.layers", "[1]"),
    "ask.coefficient": (*STEERED, "--ask.coefficient", "12"),
    "ask.where": (*STEERED, "--ask.where", "prompt"),
    "ask.plain": ("--ask.plain", "true"),
}
DRAWN = {
    "generation.max_new_tokens": ("--generation.max_new_tokens", "3"),
    "generation.temperature": ("--generation.temperature", "0.3"),
    "generation.top_p": ("--generation.top_p", "0.1"),
    "generation.num_samples": ("--generation.num_samples", "3"),
    "generation.seed": ("--generation.seed", "7"),
    "generation.batch_tokens": ("--generation.batch_tokens", "1"),
}
GREEDY = ("--generation.temperature", "0", "--generation.num_samples", "1")
GREEDY_REFUSED = {
    "generation.seed": "draws nothing at --generation.temperature 0",
    "generation.top_p": "whatever top_p is",
    "generation.num_samples": "set num_samples to 1",
}
