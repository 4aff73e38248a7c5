"""`align generate`: completions from a model or adapter folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from align.cli.functions import call
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.encoding.encoder import Encoder
from align.encoding.templates import TemplateName, make_template
from align.encoding.truncation import Truncation
from align.errors import ConfigError
from align.models.backbone import Backbone
from align.models.loading import load_policy
from align.models.tokenizer import load_tokenizer
from align.records import Message
from align.sampling.engine import Engine
from align.sampling.generation import Generation, Request
from align.sampling.http import HTTPEngine, Server
from align.sampling.local import TransformersEngine
from align.sampling.sampler import Sampler
from align.sampling.vllm import VLLMEngine

Dialogue = tuple[Message, ...]


def run(words: list[str]) -> int:
    """Run the verb."""
    return call(generate, words, "generate")


def generate(
    model: Backbone,
    prompt: list[str] | str | None = None,
    prompts: str | None = None,
    *,
    out: str | None = None,
    template: TemplateName = "auto",
    generation: Generation = Generation(),
    engine: Literal["transformers", "vllm"] = "transformers",
    server: Server | None = None,
) -> None:
    """Sample completions and print them, or write them as JSONL with the columns prompt and completion.

    Args:
        model: The model; `--model.path DIR` is enough.
        prompt: A prompt as text, or a JSON list of them.
        prompts: A file of prompts in any of the conventions `PreferenceFileDataModule` reads.
        out: JSONL file to write; null prints.
        template: How prompts are written, as in training.
        generation: How to draw.
        engine: What draws: transformers, or vLLM in this process (an extra).
        server: A server of the OpenAI kind that draws instead; `model` then only brings the tokenizer.
    """
    texts = [prompt] if isinstance(prompt, str) else prompt or []
    dialogues = [(Message("user", text),) for text in texts] + _read(prompts)
    if not dialogues:
        raise ConfigError("nothing to complete: give --prompt TEXT or --prompts FILE")
    tokenizer = load_tokenizer(model)
    encoder = Encoder(tokenizer, make_template(tokenizer, template), Truncation())
    requests = [Request.of_ids(encoder.prompt_ids(d))._replace(messages=d) for d in dialogues]
    drawing = _server_engine(server, encoder) if server else _own_engine(engine, model, encoder)
    samples = Sampler(drawing, generation).sample(requests, bar=True)
    with _output(out) as file:
        for found in samples:
            messages = [m._asdict() for m in dialogues[found.prompt]]
            row = {"prompt": messages, "completion": found.text, "tokens": len(found.ids), "finished": found.finished}
            print(json.dumps(row, ensure_ascii=False) if out else _readable(row), file=file)


def _read(path: str | None) -> list[Dialogue]:
    if path is None:
        return []
    return list(dict.fromkeys(e.messages for e in PreferenceFile(path).read("train", Report())))


def _server_engine(server: Server, encoder: Encoder) -> Engine:
    return HTTPEngine(server, encoder.tokenizer, [encoder.template.eos_id], encoder.template.stop)


def _own_engine(name: Literal["transformers", "vllm"], model: Backbone, encoder: Encoder) -> Engine:
    tokenizer, template = encoder.tokenizer, encoder.template
    if name == "vllm":
        return VLLMEngine(model.path, tokenizer, [template.eos_id], stop=template.stop)
    policy: Any = load_policy(model, tokenizer).eval()
    return TransformersEngine(policy, tokenizer, _ends(policy, encoder), template.stop)


def _ends(policy: Any, encoder: Encoder) -> list[int]:
    """Return the tokens that end a completion: the template's, and those the folder names."""
    known = policy.generation_config.eos_token_id
    named = [] if known is None else [known] if isinstance(known, int) else list(known)
    return list(dict.fromkeys([encoder.template.eos_id, *named]))


def _readable(row: dict[str, Any]) -> str:
    turns = "\n".join(f"{m['role']}: {m['content']}" for m in row["prompt"])
    return f"{turns}\n→ {row['completion'].strip()}\n"


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        yield file
