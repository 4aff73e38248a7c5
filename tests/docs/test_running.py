"""Pages are run from top to bottom in an empty folder, small models and files in the place of those they name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from align.cli.main import main
from tests.docs.commands import (
    LIST,
    LISTS,
    MATHS,
    MODEL,
    NAMES,
    PAGES,
    PAIRS,
    PROMPTS,
    QUESTIONS,
    REWARD,
    ROOT,
    SHOWN,
    commands_of,
    kind_of,
    shown,
)
from tests.tiny import FEW_SAMPLES, save_reward_model, save_tiny

NOT_RUN = {
    "a server, or a judge with something to say": "Endpoint|base_url|LocalModel",
    "the hub, or columns of one data set": "push|UltraFeedback|helpsteer|hh_rlhf|HHRLHF",
    "a terminal or a page": "^chat|^annotate",
    "an extra that may be missing": "^completion|math_answer|verifiable_rewards",
    "files of benchmarks": "^benchmark|alpaca_eval|mt_bench",
    "processes, a GPU or its launcher": "ddp|fsdp|multi_node|gpu.yaml",
    "a page of help": "help",
    "minutes of the synthetic world": "init world|gold.yaml|sppo|^study",
    "rounds of hundreds of samples": "rounds.yaml|self_rewarding|two_rewards|dpa|on-policy|pro-rounds",
    "conditions or vectors of a model trained under them": "hir|--steer",
    "a run of another page": "my-dpo/config.yaml|multi/config.yaml|^report",
}
"""Why a command is not run here: tests of the verb itself do so."""
LIMITS = [
    *("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.accelerator", "cpu"),
    *FEW_SAMPLES,
]
ROWS: dict[str, Callable[[str], dict[str, object]]] = {
    PAIRS: lambda prompt: {"prompt": prompt, "chosen": "yes it is", "rejected": "no"},
    QUESTIONS: lambda prompt: {"question": prompt, "better": "yes it is", "worse": "no"},
    MATHS: lambda prompt: {"question": prompt, "answer": "3"},
    PROMPTS: lambda prompt: {"prompt": prompt, "completion": "yes"},
    LISTS: lambda prompt: {"prompt": prompt, "completions": ["yes", "no", "it is"], "scores": [2.0, 1.0, 0.0]},
}
FOLDERS = {"weak-model": MODEL, "stories260K": MODEL, "base-model": MODEL, "other-rm": REWARD}
TOKENS = ["--generation.max_new_tokens", "2"]
SAMPLED = ["--sampling.generation.max_new_tokens", "2"]


def runs_here(words: tuple[str, ...]) -> bool:
    return not any(re.search(pattern, " ".join(words)) for pattern in NOT_RUN.values())


def make(kind: str, place: Path) -> None:
    """Write what stands for a model or a file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == MODEL:
        save_tiny(place, max_position_embeddings=512)
    elif kind == REWARD:
        save_reward_model(place)
    elif kind in ROWS:
        place.write_text("".join(json.dumps(ROWS[kind](f"is it so {n}?")) + "\n" for n in range(60)))


def stand_in(page: str, word: str) -> str:
    """Return a word whose model or file is there."""
    inside = LIST.fullmatch(word)
    if inside:
        return f"[{','.join(stand_in(page, name) for name in inside[1].split(','))}]"
    if word.startswith("configs/"):
        return str(ROOT / word)
    kind = FOLDERS.get(word) or (kind_of(word) if word in NAMES or word.endswith("/model") else None)
    place = Path(word)
    if kind == SHOWN:
        place.write_text(shown(page, word))
    elif kind is not None and not place.exists():
        make(kind, place)
    return word


def few(words: list[str]) -> list[str]:
    """Return what keeps a command small."""
    if words[0] in ("fit", "run"):
        return LIMITS
    return {"generate": TOKENS, "evaluate": [*SAMPLED, "--sampling.limit", "4"]}.get(words[0], [])


CASES = {page: [c for c in commands_of(page) if not c.launcher and runs_here(c.words)] for page in PAGES}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page, run in CASES.items() if run], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in CASES[page]:
        given = command.words
        words = [
            w if before == "--out" else stand_in(command.page, w)
            for before, w in zip(["", *given], given, strict=False)
        ]
        code = main([*words, *few(words)])
        assert code == 0, f"{command}: {capsys.readouterr().err[-2000:]}"


def test_what_is_not_run_is_known() -> None:
    every = [command.words for page in PAGES for command in commands_of(page)]
    for reason, pattern in NOT_RUN.items():
        assert any(re.search(pattern, " ".join(words)) for words in every), reason
    assert sum(map(len, CASES.values())) > 20
