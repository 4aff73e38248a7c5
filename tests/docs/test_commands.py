"""Every command of README and docs is taken by the program's own parsers."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from align.cli import functions, lightning
from align.cli.check_settings import own_options
from align.cli.included_configs import with_configs
from align.cli.main import main
from align.cli.run import parse as stages_of
from align.cli.verbs import LIGHTNING_VERBS
from tests.docs.commands import (
    CONFIG,
    PAGES,
    REWARD_CONFIG,
    ROOT,
    SHOWN,
    Command,
    all_commands,
    blocks,
    files_of,
    kind_of,
    shown,
)

SLOW = ("rahf", "dpa.yaml", "sppo", "self_rewarding", "multi.yaml", "two_rewards", "ddp", "fsdp", "multi_node", ".help")
"""Commands that take a second or more to parse, or say what others do."""
COMMANDS = [
    pytest.param(command, marks=[pytest.mark.slow] * any(word in str(command.words) for word in SLOW), id=str(command))
    for command in all_commands()
]
PATHS = {"path": "pairs.jsonl"}
BACKBONE = {"path": "HuggingFaceTB/SmolLM2-135M"}
CONFIGS = {
    CONFIG: "align.modules.dpo.DPOModule",
    REWARD_CONFIG: "align.modules.reward_model.RewardModel",
}


class ParseOnly(lightning.AlignCLI):
    """Parses and checks the settings of a verb of the Trainer, and stops there."""

    def before_instantiate_classes(self) -> None:
        """Choose no folder."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        return None


@functools.cache
def parser_of(verb: str) -> ParseOnly:
    """Return what parses a verb; making it takes five times as long as parsing."""
    lightning.prepare([verb])
    quick_start = str(ROOT / "configs" / "quick_start.yaml")
    return ParseOnly([verb, "-c", quick_start])


def parse(words: list[str]) -> int:
    """Parse a command of the Trainer. Help pages end with SystemExit."""
    words = with_configs(words)
    lightning.prepare(words)
    cli = parser_of(words[0])
    sys.argv[1:] = []
    cli.parse_arguments(cli.parser, words)
    return 0


def parse_stages(words: list[str]) -> int:
    """Parse every stage of a command."""
    stages = stages_of(words)
    for number, file in enumerate(stages.files, 1):
        parse(["fit", "-c", file, *stages.common, *stages.own.get(number, [])])
    return 0


def read_only(verb: functions.FunctionVerb, words: list[str], command: str) -> int:
    """Read the settings of another verb, and do nothing with them: in the place of `align.cli.functions.call`."""
    return REAL_CALL(dataclasses.replace(verb, function=idle(verb.function)), words, command)


def idle(function: Callable[..., Any]) -> Callable[..., int]:
    """Return a function of the same signature that does nothing."""

    @functools.wraps(function)
    def nothing(*_: Any, **__: Any) -> int:
        return 0

    return nothing


REAL_CALL = functions.call


@pytest.fixture(scope="module")
def parsing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["align"])
        patch.setenv("OPENAI_API_KEY", "none")
        patch.setattr(functions, "call", read_only)
        yield


def local(command: Command, folder: Path) -> list[str]:
    """Return a command with the configs of this tree, and with a config in the place of a run's or of one shown."""
    return [_local(command.page, word, folder) for word in command.words]


def _local(page: str, word: str, folder: Path) -> str:
    if word.startswith("configs/"):
        return str(ROOT / word)
    kind = kind_of(word)
    file = folder / f"{kind}.yaml"
    if kind == SHOWN:
        file.write_text(shown(page, word))
        return str(file)
    if kind in CONFIGS:
        data = {"class_path": "align.data.preference_file.PreferenceFileDataModule", "init_args": PATHS}
        model = {"class_path": CONFIGS[kind], "init_args": {"backbone": BACKBONE}}
        file.write_text(yaml.safe_dump({"data": data, "model": model}))
        return str(file)
    return word


@pytest.mark.parametrize("command", COMMANDS)
def test_the_program_takes_the_command(
    parsing: None,
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, equals, value in (word.partition("=") for word in command.launcher):
        if equals and name.startswith("ALIGN_"):
            monkeypatch.setenv(name, value)
    unknown = [name for name in files_of(command.words) if kind_of(name) is None]
    assert not unknown, f"not in the table of tests/docs/commands.py: {unknown}"
    words = local(command, tmp_path)
    if words[0] in LIGHTNING_VERBS and not any(word.endswith("help") for word in words):
        assert parse(words) == 0
    elif words[0] == "check":
        assert parse(["fit", *own_options(words[1:])[0]]) == 0
    elif words[0] == "run":
        assert parse_stages(words[1:]) == 0
    else:
        assert main(words) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_whole(page: Path) -> None:
    assert [block for block in blocks(page.read_text()) if "..." in block] == []


def test_a_wrong_command_would_be_found(parsing: None, capsys: pytest.CaptureFixture[str]) -> None:
    quick = str(ROOT / "configs" / "quick_start.yaml")
    with pytest.raises(Exception, match="nonsense"):
        parse(["fit", "-c", quick, "--data.nonsense", "1"])
    assert main(["generate", "--model.path", "x", "--nonsense", "1"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert kind_of("unheard-of.jsonl") is None
