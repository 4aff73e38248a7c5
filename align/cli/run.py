"""`align run`: the stages of a method one after another, each given the model folder of the one before."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from align.cli.class_names import class_at
from align.cli.lightning import run as run_lightning
from align.cli.run_folder import FINISHED
from align.cli.shipped_configs import config_place
from align.cli.yaml_check import check_config, checked_value
from align.errors import ConfigError, shorten
from align.models.folder_checks import ADAPTER_CONFIG

COMMAND = "command.json"
"""The options a stage was begun with, in its folder."""
OUT = "belongs to --out, which names the folder of every stage: leave it out"
ONE = "would be that of every stage: write it with a number, as --2{option}"
REFUSED = {
    "--trainer.default_root_dir": (OUT, OUT),
    "--model.stage1": ("is the model folder of the stage before: leave it out",) * 2,
    "--print_config": ("is for one command: align fit -c FILE --print_config",) * 2,
    "--ckpt_path": (ONE, ""),
    "--push_to_hub": (ONE, ""),
    "--public": (ONE, ""),
}
"""Options that would do nothing, or harm: why not for all stages, and why not for one."""

HELP = """usage: align run -s FILE -s FILE [...] --out DIR [options of align fit]

Run the stages of a method in order: each is `align fit -c FILE` in DIR/1, DIR/2 and so on, and every stage after the
first is given the model folder of the one before: as --model.stage1 where its method has one and the folder holds
adapters, which it checks by hash, else as --model.backbone.path (SCIT with full weights, DPO after SFT). A stage that
is finished is not run again; one that was cut off goes on. Options hold for all stages; with a number in front for one:

  align run -s configs/method/rahf_dual_stage1.yaml -s configs/method/rahf_dual.yaml --out runs/dual \\
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
        words = ["-c", file, *stages.common, *_given(file, before), *stages.own.get(number, [])]
        _refuse_others(folder, number, words)
        if (folder / FINISHED).exists():
            print(f"stage {number} of {len(stages.files)}: finished already in {folder}")
        else:
            print(f"stage {number} of {len(stages.files)}: {file} in {folder}", flush=True)
            run_lightning(["fit", *words, "--trainer.default_root_dir", str(folder)])
            (folder / COMMAND).write_text(json.dumps(words), encoding="utf-8")
        before = folder / "model"
        if not before.is_dir():
            raise ConfigError(f"stage {number}: {before} is missing, so the next stage has nothing to start from")
    return 0


def _given(file: str, before: Path | None) -> list[str]:
    """Return how a stage is given the model of the one before."""
    if before is None:
        return []
    adapters = any(before.rglob(ADAPTER_CONFIG))
    return ["--model.stage1" if adapters and _takes_stage(file) else "--model.backbone.path", str(before)]


def _takes_stage(file: str) -> bool:
    """Tell whether the method of a file has a first stage of its own."""
    check_config(file)
    content = checked_value(Path(config_place(file)).expanduser().read_text(encoding="utf-8-sig"), f"config {file}")
    method = class_at(str((content.get("model") or {}).get("class_path")))
    return method is not None and "stage1" in inspect.signature(method).parameters


def _refuse_others(folder: Path, number: int, words: list[str]) -> None:
    """Raise ConfigError for a finished stage whose options were others: they would do nothing."""
    if not (folder / FINISHED).exists() or not (folder / COMMAND).exists():
        return
    then = json.loads((folder / COMMAND).read_text(encoding="utf-8"))
    if then != words:
        place = next((n for n, (new, old) in enumerate(zip(words, then, strict=False)) if new != old), None)
        place = min(len(words), len(then)) if place is None else place
        other = " ".join((words[place:] or then[place:])[:2])
        raise ConfigError(
            f"stage {number} is finished in {folder} and was begun with other options (first: {shorten(other, 60)}): "
            "give those again, or another --out"
        )


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
        raise ConfigError("give at least two stages and a folder: align run -s FILE -s FILE --out DIR ...")
    wrong = [number for number in own if not 1 <= number <= len(files)]
    if wrong:
        raise ConfigError(f"--{wrong[0]}.{own[wrong[0]][0].lstrip('-')}: there are stages 1..{len(files)}")
    _refuse_unused(common, own)
    return Stages(files, out, common, own)


def _refuse_unused(common: Sequence[str], own: dict[int, list[str]]) -> None:
    """Raise ConfigError for an option that no stage would read, or that only one may have."""
    for option, (for_all, for_one) in REFUSED.items():
        if for_all and option in common:
            raise ConfigError(f"{option}: {for_all.format(option='.' + option[2:])}")
        for number, words in own.items():
            if for_one and option in words and not (option == "--model.stage1" and number == 1):
                raise ConfigError(f"--{number}.{option[2:]}: {for_one}")


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
            raise ConfigError(f"{word!r} stands before any option: see align run --help")
    return found
