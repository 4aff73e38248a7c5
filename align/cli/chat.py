"""`align chat`: talk to a model in the terminal, or to two side by side."""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from align.cli.functions import FunctionVerb
from align.cli.model_options import gathered
from align.cli.typed_words import listed_first
from align.errors import ConfigError
from align.evaluation.asked_models import Models, paths_of
from align.evaluation.completions import EvaluationPrompt
from align.evaluation.policy import Policy
from align.models.asked import asking_of
from align.models.backbone import Backbone
from align.records import Message
from align.records.asking import Ask, AskedModel
from align.sampling.checked import LocalEngine
from align.sampling.generation import Generation, Request
from align.sampling.sampler import Sampler

TALK = Generation(max_new_tokens=256, temperature=0.7)
BEGIN_ANEW, LEAVE = "/new", "/quit"


def chat(models: Models, *, system: str | None = None, generation: Generation = TALK) -> None:
    """Talk to a model in the terminal, or to two side by side: align chat MODEL [MODEL].

    A line is a turn, put to every model as its folder says it is asked; each goes on with its own answers. /new begins
    again, /quit or the end of the input leaves.

    Args:
        models: One or two folders or hub ids, before all options; or by name (`--models.NAME DIR`) with what is asked
            otherwise, as in `--models.NAME.plain true`.
        system: System turn in front.
        generation: How to draw an answer.
    """
    if generation.num_samples != 1:
        raise ConfigError(f"generation.num_samples must be 1, a turn has one answer, got {generation.num_samples}")
    if not 1 <= len(models) <= 2:
        raise ConfigError(f"models: align chat takes one model or two, got {len(models)}")
    speakers = [_load(name, path, ask, system) for name, (path, ask) in zip(models, paths_of(models), strict=True)]
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


def _load(name: str, path: str, ask: Ask, system: str | None) -> _Speaker:
    policy = Policy.load(Backbone(path), asking=asking_of(path, ask))
    policy.asking.tell(name)
    engine = LocalEngine(policy.model, policy.tokenizer, policy.eos_ids, policy.encoder.template.stop)
    start = () if system is None else (Message("system", system),)
    return _Speaker(name, policy, engine, start, start)


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
        said = speaker.policy.encoder.template.said
        [sample] = Sampler(speaker.engine, generation, round_number=turn, said=said).sample([request])
    return sample.text.strip()


def _show(console: Console, speakers: list[_Speaker], answers: list[str]) -> None:
    grid = Table.grid(expand=True)
    for _ in speakers:
        grid.add_column(ratio=1)
    grid.add_row(*(Panel(Text(a), title=Text(s.name)) for s, a in zip(speakers, answers, strict=True)))
    console.print(grid)


def _spelled(words: list[str]) -> list[str]:
    return gathered(listed_first("--models", words), AskedModel)


VERB = FunctionVerb(chat, reword=_spelled)
