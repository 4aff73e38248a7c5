"""`align generate`: completions from a model or adapter folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from align.activations.reading_vectors import Kind
from align.activations.steering import Where
from align.cli.answering import EngineName, Written, answerer
from align.cli.answers import AnswerFormat, answer_file
from align.cli.evaluation_tables import name as short_name
from align.cli.functions import FunctionVerb
from align.cli.unused_of_generate import UNUSED
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.encoding.templates import TemplateName
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records import Beside, Instructions, Message, Which
from align.records.asking import Ask
from align.sampling.compared_workers import ComparedWorkers
from align.sampling.generation import Generation
from align.sampling.http import Server
from align.sampling.server_pool import ServerPool
from align.strict_json import json_text


def generate(  # noqa: PLR0913  the signature is the command line
    model: Backbone,
    prompt: list[str] | str | None = None,
    prompts: str | None = None,
    *,
    direction: str | None = None,
    angle: float | None = None,
    ratings: str | None = None,
    out: str | None = None,
    template: TemplateName = "auto",
    chat_template_kwargs: dict[str, Any] | None = None,
    generation: Generation = Generation(),
    under: Which | None = None,
    instructions: Instructions | None = None,
    system: str | None = None,
    plain: bool = False,
    steer: str | None = None,
    vector: Kind = "mean",
    layers: list[int] | None = None,
    coefficient: float = 1.0,
    where: Where = "all",
    answers: AnswerFormat | None = None,
    name: str | None = None,
    engine: EngineName = "transformers",
    server: Server | None = None,
    pool: ServerPool | None = None,
    ray: ComparedWorkers | None = None,
) -> None:
    """Sample completions and print them, or write them as JSONL with the columns prompt and completion.

    Args:
        model: The model; `--model.path DIR` is enough.
        prompt: A prompt as text, or a JSON list of them.
        prompts: A file of prompts in any of the conventions `PreferenceFileDataModule` reads.
        direction: Weights of the rewards a model was trained under, as in 0.8,-0.6 or
            helpfulness=0.8,verbosity=-0.6; of any length. Null takes the middle of its arc.
        angle: The same as an angle in degrees, as in -37.
        ratings: Ratings for a SteerLM model, as in 80,20, or scores for one trained with scores in the prompt. Null
            takes the highest its folder knows.
        out: JSONL file to write; null prints.
        template: `auto`: as in training; `chat`, `plain` or a Jinja file.
        chat_template_kwargs: What the chat template is given beside the dialogue, such as {"enable_thinking": false};
            a folder of ours keeps those of its training.
        generation: How to draw.
        under: Put the good or the bad instruction, or marker, into every prompt. Null takes the good one where the
            model was trained under them.
        instructions: The two texts; null takes those of training.
        system: Text of a system turn.
        plain: Ask with the prompt alone, whatever the model was trained under.
        steer: A `vectors.safetensors` of ActivationCollector: its vectors are added to the states of every position.
        vector: Which of its vectors.
        layers: At which of its layers; null takes all, whose effects add up along the stream.
        coefficient: Factor on the vectors, in units of their own length.
        where: Steer the states of the prompt, of what is generated, or of both.
        answers: Write the answer file of a benchmark instead: `prompts` is then AlpacaEval's evaluation set or
            MT-bench's question.jsonl, and their own commands read OUT.
        name: What such a file calls the model; null takes the name of its folder, of the run where that is `model`.
            The policy is asked, steered and drawn from as without `answers`, each turn of MT-bench after the answers
            before it.
        engine: What draws: our engine on transformers, `continuous` for continuous batching of transformers (the same
            samples), or vLLM in this process (an extra).
        server: A server of the OpenAI kind that draws instead; `model` then only brings the tokenizer.
        pool: Servers that draw instead, each given the model, or started with it; it is loaded here too, since what
            they say of their samples is compared.
        ray: Workers on a Ray cluster that draw instead, the same tokens; the model is loaded here too, for the same
            reason.
    """
    condition = {"direction": direction, "angle": angle, "ratings": ratings}
    steering = {"steer": steer, "vector": vector, "layers": layers, "coefficient": coefficient, "where": where}
    words: dict[str, Any] = {**condition, **steering, "under": under, "instructions": instructions}
    asking = asking_of(model.path, Ask(**words, system=system, plain=plain))
    asking.tell(model.path)
    asked = (
        answer_file(
            answers, prompts, out, name or short_name(str(Path(model.path).expanduser().absolute())), generation
        )
        if answers
        else None
    )
    texts = [prompt] if isinstance(prompt, str) else prompt or []
    todo = [] if asked else [EvaluationPrompt((Message("user", text),)) for text in texts] + read_prompts(prompts)
    if not todo and asked is None:
        raise ConfigError("nothing to complete: give --prompt TEXT or --prompts FILE")
    written = Written(template, chat_template_kwargs)
    with answerer(model, asking, written=written, engine=engine, server=server, pool=pool, ray=ray) as policy:
        if asked is not None:
            asked.write(policy.texts)
            return
        samples = policy.samples(todo, generation)
    with _output(out) as file:
        for found in samples:
            row = {**_plain(todo[found.prompt]), "completion": found.text}
            row |= {"tokens": len(found.ids), "finished": found.finished}
            print(json_text(row) if out else _readable(row), file=file)


def _plain(prompt: EvaluationPrompt) -> dict[str, Any]:
    """Return a prompt as columns of a data file."""
    tools, settings = Beside.of(prompt.tools)
    more = {"tools": json.loads(tools) if tools else None, "chat_template_kwargs": dict(settings)}
    return {"prompt": [m.as_turn() for m in prompt.messages], **{name: held for name, held in more.items() if held}}


def read_prompts(path: str | None) -> list[EvaluationPrompt]:
    """Return the different prompts of a file, with the tools that may be called."""
    if path is None:
        return []
    report = Report()
    rows = PreferenceFile(path).read("train", report)
    found = list(dict.fromkeys(EvaluationPrompt(example.messages, tools=example.tools) for example in rows))
    if report.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.dropped.most_common())
        print(f"prompts {path}: {report.read} rows, left out: {reasons}", file=sys.stderr)
    return found


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


VERB = FunctionVerb(generate, unused=UNUSED)
