"""`align run`: the stages of a method one after another, each given the model folder of the one before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from align.cli.included_configs import configs_of
from align.cli.launch import is_first_process
from align.cli.lightning import run as run_lightning
from align.cli.stage_start import start_words
from align.errors import ConfigError, shorten
from align.studies.files_read import files_read
from align.studies.records import changed, read_record, record_path
from align.studies.scheduler import Ended, StudyPlan, claimed, run_plan
from align.studies.study_file import StudyStep
from align.studies.tasks import Task

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
is finished is not run again; one that was cut off goes on. What is more than a row is a study: align study. Options
hold for all stages; with a number in front for one:

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
    plan = StudyPlan(Path(stages.out), _tasks(stages), writes=is_first_process())
    for task in plan.tasks.values():
        _refuse_others(plan.out, task)

    def launch(task: Task, _: int) -> Ended:
        own = stages.own.get(int(task.name), [])
        start = start_words(task.words, task.start) if task.start else []
        common = list(task.words[: len(task.words) - len(own)])
        run_lightning(["fit", *common, *start, *own, "--trainer.default_root_dir", str(task.folder)])
        return Ended()

    with claimed(plan.out) if plan.writes else nullcontext():
        run_plan(plan, launch)
    return 0


def _tasks(stages: Stages) -> dict[str, Task]:
    """Return the stages as steps of a study, each of which needs the one before."""
    found: dict[str, Task] = {}
    for number, file in enumerate(stages.files, 1):
        before = found.get(str(number - 1))
        words = ("-c", file, *stages.common, *stages.own.get(number, []))
        reads = {"words": list(words), "files": files_read(words, words, configs_of)}
        reads["needs"] = {} if before is None else {before.name: before.key}
        needs, start = tuple(reads["needs"]), None if before is None else before.folder
        folder = Path(stages.out) / str(number)
        found[str(number)] = Task(
            str(number), StudyStep(f"stage {number}", "fit"), words, folder, needs, start, reads=reads
        )
    return found


def _refuse_others(out: Path, task: Task) -> None:
    """Raise ConfigError for a finished stage whose options were others: they would do nothing."""
    record = read_record(record_path(out, task))
    if record is None or record["ending"] != "finished" or record["reads"] == task.reads:
        return
    words, then = list(task.words), record["reads"]["words"]
    if words == then:
        other = changed(record["reads"], task.reads)
        raise ConfigError(f"stage {task.name} is finished in {task.folder}, but {other}: give another --out")
    place = next((n for n, (new, old) in enumerate(zip(words, then, strict=False)) if new != old), None)
    place = min(len(words), len(then)) if place is None else place
    first = " ".join((words[place:] or then[place:])[:2])
    raise ConfigError(
        f"stage {task.name} is finished in {task.folder} and was begun with other options (first: "
        f"{shorten(first, 60)}): give those again, or another --out"
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
