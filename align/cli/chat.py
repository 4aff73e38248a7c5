"""`align chat`: talk to a model in the terminal, or to two side by side."""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from align.cli.functions import call
from align.cli.start import prepare
from align.errors import ConfigError
from align.evaluation.completions import EvaluationPrompt
from align.evaluation.policy import Policy
from align.models.backbone import Backbone
from align.records import Message
from align.sampling.checked import LocalEngine
from align.sampling.generation import Generation, Request
from align.sampling.sampler import Sampler

TALK = Generation(max_new_tokens=256, temperature=0.7)
BEGIN_ANEW, LEAVE = "/new", "/quit"


def run(words: list[str]) -> int:
    """Run the verb; the first words are the models."""
    named = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    if len(named) > 2:
        raise ConfigError(f"{named[2]!r}: align chat takes one model or two")
    words = [*itertools.chain(*zip(("--model", "--model_b"), named, strict=False)), *words[len(named) :]]
    prepare(words)
    return call(chat, words, "chat", config=True)


def chat(model: str, model_b: str | None = None, *, system: str | None = None, generation: Generation = TALK) -> None:
    """Talk to a model in the terminal, or to two side by side: align chat MODEL [MODEL_B].

    A line is a turn, put to every model as its folder says it is asked; each goes on with its own answers. /new begins
    again, /quit or the end of the input leaves.

    Args:
        model: Folder or hub id; also as the first word.
        model_b: A second one that gets the same turns; also as the second word.
        system: System turn in front.
        generation: How to draw an answer.
    """
    if generation.num_samples != 1:
        raise ConfigError(f"generation.num_samples must be 1, a turn has one answer, got {generation.num_samples}")
    speakers = [_load(path, system) for path in (model, model_b) if path is not None]
    console = Console()
    for turn in itertools.count():
        line = _read(console)
        if line is None or line == LEAVE:
            return
        if line == BEGIN_ANEW:
            speakers = [speaker._replace(dialogue=speaker.start) for speaker in speakers]
        elif line:
            asked = [speaker._replace(dialogue=(*speaker.dialogue, Message("user", line))) for speaker in speakers]
            answers = [_answer(speaker, generation, turn) for speaker in asked]
            speakers = [
                speaker._replace(dialogue=(*speaker.dialogue, Message("assistant", answer)))
                for speaker, answer in zip(asked, answers, strict=True)
            ]
            _show(console, speakers, answers)


class _Speaker(NamedTuple):
    name: str
    policy: Policy
    engine: LocalEngine
    start: tuple[Message, ...]
    dialogue: tuple[Message, ...]


def _load(path: str, system: str | None) -> _Speaker:
    policy = Policy.load(Backbone(path))
    policy.asking.tell(path)
    engine = LocalEngine(policy.model, policy.tokenizer, policy.eos_ids, policy.encoder.template.stop)
    start = () if system is None else (Message("system", system),)
    return _Speaker(path, policy, engine, start, start)


def _read(console: Console) -> str | None:
    """Return the next line, None at the end of the input."""
    if sys.stdin.isatty():
        try:
            return console.input("[bold]> [/bold]").strip()
        except EOFError:
            return None
    line = sys.stdin.readline()
    return line.strip() if line else None


def _answer(speaker: _Speaker, generation: Generation, turn: int) -> str:
    [(ids, cut)] = speaker.policy.prompt_ids([EvaluationPrompt(speaker.dialogue)], generation.max_new_tokens)
    if cut:
        print(f"{speaker.name}: the dialogue is longer than the context, its start is cut off", file=sys.stderr)
    request = Request.of_ids(ids)._replace(messages=speaker.dialogue)
    with speaker.policy.steered():
        [sample] = Sampler(speaker.engine, generation, round_number=turn).sample([request])
    return sample.text.strip()


def _show(console: Console, speakers: list[_Speaker], answers: list[str]) -> None:
    grid = Table.grid(expand=True)
    for _ in speakers:
        grid.add_column(ratio=1)
    grid.add_row(*(Panel(Text(a), title=Text(s.name)) for s, a in zip(speakers, answers, strict=True)))
    console.print(grid)
