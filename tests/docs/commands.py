"""The commands that README and docs show, and what stands for their files and models in tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments").rglob("*.md")),
]
BLOCK = re.compile(r"^ *```bash\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PROGRAM = ("align", "$(which align)")
LIST = re.compile(r"\[(.*)\]")
FILE = re.compile(r"(?!https?:)[\w.*-]+/[\w./*-]+|[\w.-]+\.(?:jsonl|json|csv|yaml|parquet|safetensors|gguf|html)")

MODEL, REWARD, PAIRS, LISTS, PROMPTS, OTHER = "model", "reward", "pairs", "lists", "prompts", "other"
MATHS = "maths"
QUESTIONS, CONFIG, REWARD_CONFIG, SHOWN = "questions", "config", "reward_config", "shown"
NAMES = {
    "HuggingFaceTB/SmolLM2-135M": MODEL,
    "runs/world/base": MODEL,
    "runs/dpa/rounds/model-0001": MODEL,
    "runs/rm/model": REWARD,
    "runs/reward_model_multi/model": REWARD,
    "Anthropic/hh-rlhf": PAIRS,
    "openbmb/UltraFeedback": OTHER,
    "pairs.jsonl": PAIRS,
    "questions.jsonl": QUESTIONS,
    "human.jsonl": PAIRS,
    "math.jsonl": MATHS,
    "alpaca.jsonl": PAIRS,
    "weak.jsonl": PROMPTS,
    "strong.jsonl": PROMPTS,
    "sft.jsonl": PROMPTS,
    "dpo.jsonl": PROMPTS,
    "lists.jsonl": LISTS,
    "prompts.jsonl": PROMPTS,
    "harmless.jsonl": PAIRS,
    "helpful.jsonl": PAIRS,
    "runs/my-dpo/config.yaml": CONFIG,
    "runs/rm/config.yaml": REWARD_CONFIG,
    "runs/reward_model_multi/config.yaml": REWARD_CONFIG,
    "mine.yaml": CONFIG,
    "fits.yaml": OTHER,
    "my-rounds.yaml": SHOWN,
    "reward-rounds.yaml": SHOWN,
    "study.yaml": SHOWN,
    "ME/my-model": OTHER,
    "ME/my-pairs": OTHER,
    "vectors.safetensors": OTHER,
    "rewardbench.parquet": OTHER,
    "SmolLM2-135M-Instruct.gguf": OTHER,
    "TruthfulQA.csv": OTHER,
    "alpaca_eval.json": OTHER,
    "question.jsonl": OTHER,
    "judge_single.jsonl": OTHER,
    "annotations.json": OTHER,
    "answers.json": OTHER,
    "answers.jsonl": OTHER,
    "gpt4_1106_preview.json": OTHER,
    "df_gamed.csv": OTHER,
    "reference_gpt-4.jsonl": OTHER,
}
"""What the file or model of a command is (SHOWN: a file that the page itself shows); a command with another is an error of the page, or of this table."""
WRITTEN = {
    *(
        "align.schema.json",
        "lists.parquet",
        "pairs-view.jsonl",
        "ranked.jsonl",
        "v.gguf",
        "dpa_0.8.json",
        "row.csv",
        "runs/report.html",
        "samples.jsonl",
    ),
    "runs/dpo/lm_eval.json",
}
"""Files that commands write and none reads."""


class Command(NamedTuple):
    """A command of `align` on a page."""

    page: str
    words: tuple[str, ...]
    launcher: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)[:90]}"


def blocks(text: str) -> Iterator[str]:
    """Yield every block of commands."""
    yield from (match[1] for match in BLOCK.finditer(text))


def commands_of(page: Path) -> Iterator[Command]:
    """Yield the commands of a page that start `align`, by themselves or through a launcher."""
    for block in blocks(page.read_text(encoding="utf-8")):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = shlex.split(line, comments=True)
            place = next((n for n, word in enumerate(words) if word in PROGRAM), None)
            if place is not None:
                name = str(page.relative_to(ROOT))
                yield Command(name, tuple(words[place + 1 :]), tuple(words[:place]))


def shown(page: str, name: str) -> str:
    """Return the file of a name that a page shows."""
    found = re.search(
        rf"^```yaml\n(# {re.escape(name)}\n.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert found, f"{page} does not show {name}"
    return found[1]


def all_commands() -> list[Command]:
    """Return every command of every page, each once."""
    found = [command for page in PAGES if page.exists() for command in commands_of(page)]
    return list({command.words: command for command in found}.values())


def files_of(words: tuple[str, ...]) -> Iterator[str]:
    """Yield what looks like a file, a folder or a repository of the hub."""
    for word in words:
        inside = LIST.fullmatch(word)
        for value in inside[1].split(",") if inside else [word]:
            if FILE.fullmatch(value):
                yield value


def kind_of(name: str) -> str | None:
    """Return what stands for a name, None where the table does not know it."""
    if name in NAMES:
        return NAMES[name]
    if name.startswith("runs/") and name.endswith("/model"):
        return MODEL
    written = name in WRITTEN or name.startswith(("runs/", "/shared/runs/"))
    return OTHER if written or (ROOT / name).exists() else None
