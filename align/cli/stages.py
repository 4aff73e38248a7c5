"""`align stages`: the stages of a method one after another, each given the model folder of the one before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from align.cli.lightning import run as run_lightning
from align.cli.run_folder import FINISHED
from align.errors import ConfigError

HELP = """usage: align stages -s FILE -s FILE [...] --out DIR [options of align fit]

Run the stages of a method in order: each is `align fit -c FILE` in DIR/1, DIR/2 and so on, and every stage after the
first is given the model folder of the one before (--model.stage1), whose adapters it checks by hash. A stage that is
finished is not run again; one that was cut off goes on. Options hold for all stages; with a number in front for one:

  align stages -s configs/method/rahf_dual_stage1.yaml -s configs/method/rahf_dual.yaml --out runs/dual \\
      --data HHRLHFDataModule --data.path DIR --model.backbone.path DIR --1.model.optimizer.learning_rate 1e-4"""


class Stages(NamedTuple):
    """A command taken apart."""

    files: list[str]
    out: str
    common: list[str]
    own: dict[int, list[str]]


def run(words: list[str]) -> int:
    """Run the verb."""
    if not words or "-h" in words or "--help" in words:
        print(HELP)
        return 0
    stages = parse(words)
    before: Path | None = None
    for number, file in enumerate(stages.files, 1):
        folder = Path(stages.out) / str(number)
        if (folder / FINISHED).exists():
            print(f"stage {number} of {len(stages.files)}: finished already in {folder}")
        else:
            given = [] if before is None else ["--model.stage1", str(before)]
            place = ["--trainer.default_root_dir", str(folder)]
            print(f"stage {number} of {len(stages.files)}: {file} in {folder}", flush=True)
            run_lightning(["fit", "-c", file, *stages.common, *given, *place, *stages.own.get(number, [])])
        before = folder / "model"
        if not before.is_dir():
            raise ConfigError(f"stage {number}: {before} is missing, so the next stage has nothing to start from")
    return 0


def parse(words: Sequence[str]) -> Stages:
    """Take a command apart. Raises ConfigError for one without files or folder, or with a stage that is not there."""
    files: list[str] = []
    out = ""
    common: list[str] = []
    own: dict[int, list[str]] = {}
    for option, values in _options(words):
        numbered = re.fullmatch(r"--(\d+)\.(.+)", option)
        if option in ("-s", "--stage"):
            files += values
        elif option == "--out":
            out = " ".join(values)
        elif numbered:
            own.setdefault(int(numbered[1]), []).extend([f"--{numbered[2]}", *values])
        else:
            common += [option, *values]
    if len(files) < 2 or not out:
        raise ConfigError("give at least two stages and a folder: align stages -s FILE -s FILE --out DIR ...")
    wrong = [number for number in own if not 1 <= number <= len(files)]
    if wrong:
        raise ConfigError(f"--{wrong[0]}.{own[wrong[0]][0].lstrip('-')}: there are stages 1..{len(files)}")
    return Stages(files, out, common, own)


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return every option with the words up to the next one; `--name=value` is taken apart."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if re.match(r"--?[A-Za-z]|--\d+\.", word):
            name, equals, value = word.partition("=")
            found.append((name, [value] if equals else []))
        elif found:
            found[-1][1].append(word)
        else:
            raise ConfigError(f"{word!r} stands before any option: see align stages --help")
    return found
