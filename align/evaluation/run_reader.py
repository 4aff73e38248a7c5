"""What a run left behind: settings, seed, data fingerprint, logged series, sample completions."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from align.errors import DataError
from align.evaluation.run_log import FINISHED, METRICS, TABLES, read_asked, read_numbers, read_table
from align.models.asked import asking_of

LOGS = ("gold", "rewards", "judge")
"""Evaluations while training, which append a line per step to a file of their name."""
SAMPLES = "samples"
EVENTS = "events.out.tfevents.*"
LARGEST = 1_000_000
_FACTS = re.compile(r"^Trained with align\. Data fingerprint `([^`\n]*)`, seed (\S+)\.$", re.MULTILINE)
_CHECK = re.compile(r"^Self-check: (.+)\.$", re.MULTILINE)
_METRIC = re.compile(r"^\| ([\w./ -]+) \| (\S+) \|$", re.MULTILINE)
_SETTINGS = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"^- (\S+) ([\w.+-]+)$", re.MULTILINE)


class Series(NamedTuple):
    """One logged quantity."""

    steps: list[int]
    values: list[float]


@dataclass
class Run:
    """A run folder of `align fit`, or a model folder; what is not there is empty."""

    name: str
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    seed: str = ""
    fingerprint: str = ""
    """Of the training data and how it was encoded; data of the same fingerprint are the same."""
    check: str = ""
    """What the self-check of the run found."""
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool | None = None
    """Whether training came to its end; None where the folder does not tell."""
    series: dict[str, Series] = field(default_factory=dict)
    asked: str = ""
    """How the model is asked, as its folder says, or as it was asked while training; nothing for the prompt alone."""
    samples: list[tuple[str, str]] = field(default_factory=list)
    """Prompts and completions of the last sample table."""
    picture: bytes = b""
    """The PNG of how far representations are from their targets, by layer and position."""

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.folder / "model" if (self.folder / "model").is_dir() else self.folder

    def last(self, tag: str) -> float | None:
        """Return the last value of a series."""
        found = self.series.get(tag)
        return found.values[-1] if found and found.values else None

    @property
    def method(self) -> str:
        """Class of the module."""
        return str(self.config.get("model", {}).get("class_path", "")).rsplit(".", 1)[-1]


def read_run(folder: Path) -> Run | None:
    """Return what a run folder or a model folder holds, None where it is neither. Raises DataError for damage."""
    if folder.name == "model" and _is_run(folder.parent):
        folder = folder.parent
    model = folder / "model" if _is_run(folder) else folder
    if not _is_run(folder) and not (model / "config.json").is_file() and not (model / "adapter_config.json").is_file():
        return None
    run = Run(folder.resolve().name, folder)
    if (model / "README.md").is_file():
        _read_card(run, _text(model / "README.md"))
    if _is_run(folder):
        _read_folder(run)
    run.asked = (asking_of(str(model)).told if model.is_dir() else "") or run.asked
    return run


def read_series(folder: Path) -> dict[str, Series]:
    """Return every number that was logged in a run folder: what the run itself wrote, else its tensorboard files."""
    return _numbers(folder / METRICS) or _series(_events(folder))


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() or any(folder.glob(EVENTS))


def _read_folder(run: Run) -> None:
    if (run.folder / "config.yaml").is_file():
        run.config = _settings(_text(run.folder / "config.yaml"), run.folder / "config.yaml")
        run.seed = str(run.config.get("seed_everything", run.seed))
    run.series, run.samples = _numbers(run.folder / METRICS), read_table(run.folder / TABLES, SAMPLES)
    if not run.series:
        events = _events(run.folder)
        run.series, run.samples = _series(events), _samples(events)
    for name in LOGS:
        for tag, series in _numbers(run.folder / f"{name}.jsonl").items():
            run.series[f"{name}/{tag}"] = series
        run.asked = read_asked(run.folder / f"{name}.jsonl") or run.asked
    note, ended = run.folder / "checkpoints" / "last.json", run.folder / FINISHED
    if note.is_file():
        run.fingerprint = str(_json(note).get("fingerprint") or run.fingerprint)
    run.finished = ended.is_file() or (run.folder / "model").is_dir()
    picture = run.folder / "alignment.png"
    if picture.is_file() and picture.stat().st_size < LARGEST and picture.read_bytes().startswith(b"\x89PNG\r\n"):
        run.picture = picture.read_bytes()


def _read_card(run: Run, card: str) -> None:
    """Take what the model card says; a card of another origin says nothing."""
    facts, settings = _FACTS.search(card), _SETTINGS.search(card)
    if facts is None or settings is None:
        return
    run.fingerprint, run.seed = facts.group(1).removeprefix("none"), facts.group(2)
    run.check = check.group(1) if (check := _CHECK.search(card[: settings.start()])) else ""
    run.config = _settings(settings.group(1), run.model / "README.md")
    run.versions = dict(_VERSION.findall(card[settings.end() :]))
    for name, value in _METRIC.findall(card[: settings.start()]):
        if name != "metric":
            run.series[name] = Series([0], [float(value)])


def _settings(text: str, path: Path) -> dict[str, Any]:
    """Read YAML; aliases, which runs do not write, could blow it up."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise DataError(f"{path}: YAML with aliases, expected the settings as `align fit` writes them")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: no settings, expected them as `align fit` writes them")
    model = found.get("model", {})
    if not isinstance(model, dict) or not isinstance(model.get("init_args", {}), dict):
        raise DataError(f"{path}: its model is no class with settings, expected them as `align fit` writes them")
    return found


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: larger than {LARGEST:,} bytes, expected a file as `align fit` writes it")
    return path.read_text(encoding="utf-8", errors="replace")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _numbers(path: Path) -> dict[str, Series]:
    """Return the series of a file with a line per step."""
    found = {tag: sorted(values.items()) for tag, values in read_numbers(path).items()}
    return {tag: Series([step for step, _ in rows], [value for _, value in rows]) for tag, rows in found.items()}


def _events(folder: Path) -> Any:
    """Return the tensorboard files of a run that was not started by `align fit`."""
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    kept = {**event_accumulator.STORE_EVERYTHING_SIZE_GUIDANCE, "images": 1}
    return event_accumulator.EventAccumulator(str(folder), size_guidance=kept).Reload()


def _series(events: Any) -> dict[str, Series]:
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    return {tag: Series([e.step for e in series], [e.value for e in series]) for tag, series in found.items()}


def _samples(events: Any) -> list[tuple[str, str]]:
    """Return the rows of the last sample table, as `align.callbacks.samples` writes it, with its escapes undone."""
    tag = f"{SAMPLES}/text_summary"
    if tag not in events.Tags()["tensors"]:
        return []
    text = events.Tensors(tag)[-1].tensor_proto.string_val[0].decode("utf-8", errors="replace")
    cells = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in text.split("\n")[2:]]
    return [(_plain(row[0]), _plain(row[1])) for row in cells if len(row) == 2]


def _plain(cell: str) -> str:
    return html.unescape(cell.replace("<br>", "\n"))
