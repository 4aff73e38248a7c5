"""Training, validation and test data that share no prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from align.data.row_validation import prompt_id
from align.data.source import Report, Source
from align.errors import ConfigError
from align.records import Example


@dataclass(frozen=True)
class Splits:
    """Fractions of the training prompts that are set apart where the data ships no such split.

    A prompt falls into a split by a hash of its text, so all its rows go together and adding data moves no prompt. The
    examples of one row that go on with each other, such as a tree of messages, fall by their first question.
    """

    val_fraction: float = 0.05
    """Share of the prompts held out for validation."""
    test_fraction: float = 0.0
    """Share of the prompts held out for testing."""
    seed: int = 0
    """Another seed holds out other prompts."""
    half: Literal["all", "first", "second"] = "all"
    """Train on one half of the training prompts only, as RAHF (arXiv:2312.15997, section 4.1) does for its reward model
    and for PPO: `first` in one run and `second` in the other share no prompt."""
    folds: int | None = None
    """Cross-validation: cut the prompts into this many folds of about the same size, one of which is the test split;
    `val_fraction` is a share of the others. Every prompt is in the test split of one fold."""
    fold: int | None = None
    """Which fold is the test split, from 0 on."""

    def __post_init__(self) -> None:
        self._check_folds()
        if self.val_fraction < 0 or self.test_fraction < 0 or self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"splits: fractions must not be negative and must add up to less than 1, got val {self.val_fraction} "
                f"and test {self.test_fraction}"
            )

    def __repr__(self) -> str:
        """Name the folds only where there are any: caches of tokens and checkpoints know the splits by this text."""
        names = [each.name for each in fields(self) if each.name not in ("folds", "fold") or self.folds is not None]
        return f"Splits({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def _check_folds(self) -> None:
        if self.folds is None and self.fold is None:
            return
        if self.folds is None or self.fold is None:
            raise ConfigError(
                f"data.splits.folds {self.folds}, fold {self.fold}: cross-validation needs both, how many folds there "
                "are and which of them is the test split, as in --data.splits.folds 5 --data.splits.fold 0"
            )
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise ConfigError(
                f"data.splits.fold {self.fold} of data.splits.folds {self.folds}: expected 2 folds or more, and one of "
                "0 to folds - 1"
            )
        if self.test_fraction > 0:
            raise ConfigError(
                f"data.splits.test_fraction {self.test_fraction}: data.splits.fold {self.fold} is the test split: "
                "leave one of them out"
            )

    @property
    def divides(self) -> bool:
        """Tell whether not every training prompt is trained on."""
        return self.val_fraction > 0 or self.test_fraction > 0 or self.half != "all" or self.folds is not None

    def of(self, prompt: str) -> str:
        """Return the split a prompt id falls into when the data ships none."""
        if self.folds is not None and int(self._place("fold ", prompt) * self.folds) == self.fold:
            return "test"
        place = self._place("", prompt)
        if place < self.test_fraction:
            return "test"
        return "val" if place < self.test_fraction + self.val_fraction else "train"

    def _place(self, drawn: str, prompt: str) -> float:
        """Return a number from 0 to 1 that a prompt draws by its text."""
        digest = hashlib.sha256(f"{drawn}{self.seed} {prompt}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def keeps(self, prompt: str) -> bool:
        """Tell whether a training prompt is in the half that is asked for."""
        first = hashlib.sha256(f"half {self.seed} {prompt}".encode()).digest()[0] < 128
        return self.half == "all" or first == (self.half == "first")


def check_fractions(sources: Sequence[Source], splits: Splits) -> None:
    """Raise ConfigError for a share that is asked for where all data ship the split."""
    for name in ("val", "test"):
        asked, usual = (getattr(of, f"{name}_fraction") for of in (splits, Splits))
        if asked != usual and all(source.split_names()[name] for source in sources):
            raise ConfigError(
                f"data.splits.{name}_fraction {asked}: {sources[0].path} ships a {name} split, taken as it is: "
                "leave it out, or give the training file alone"
            )
    if splits.folds is not None and (shipping := [s for s in sources if s.split_names()["test"]]):
        raise ConfigError(
            f"data.splits.fold {splits.fold}: {shipping[0].path} ships a test split, which is taken as it is: leave "
            "folds and fold out, or give the training file alone"
        )


Divided = dict[str, tuple[list[Example], Report]]


def divide_source(source: Source, splits: Splits) -> Divided:
    """Return examples and report of `train`, `val` and `test`, all in memory."""
    division = Division(source, splits)
    divided: Divided = {name: ([], report) for name, report in division.reports.items()}
    for split, example in division:
        divided[split][0].append(example)
    return divided


class Division:
    """Yields each example of a source with its split: one the data ships, else a share of its training rows.

    A training row whose prompt is also in a shipped validation or test split is dropped and counted. The reports are
    complete behind the last example.
    """

    def __init__(self, source: Source, splits: Splits, *, train: bool = True) -> None:
        """Without `train`, yield the splits that the data ships alone."""
        self.source, self.splits, self._train = source, splits, train
        names = source.split_names()
        self._shipped = [name for name in ("val", "test") if names[name]]
        self._held_out: set[str] = set()
        self.reports = {name: Report() for name in (("train", "val", "test") if train else self._shipped)}

    def __iter__(self) -> Iterator[tuple[str, Example]]:
        for name in self._shipped:
            for example in self.source.stream(name, self.reports[name]):
                self._held_out.add(prompt_id(example.messages))
                yield name, example
        if self._train:
            moved, train = dict.fromkeys(self.reports, 0), self.reports["train"]
            for split, example in self.training(self.source.stream("train", train), train):
                moved[split] += split != "train"
                yield split, example
            for split, count in moved.items():
                self.reports[split].read += count
                train.read -= count

    def training(self, examples: Iterable[Example], report: Report) -> Iterator[tuple[str, Example]]:
        """Yield training examples with their split, once those that are shipped were seen."""
        if not self._held_out and not self.splits.divides:
            yield from (("train", example) for example in examples)
            return
        overlap = Report()
        for example in examples:
            prompt = prompt_id(example.messages)
            drawn_by = _first_question(example) if example.among else prompt
            home = self.splits.of(drawn_by)
            if prompt in self._held_out:
                overlap.drop("prompt also in the validation or test split", example.id)
                continue
            split = "train" if home in self._shipped else home
            if split == "train" and not self.splits.keeps(drawn_by):
                overlap.drop("prompt in the other half", example.id)
                continue
            yield split, example
        report.add(overlap)


def _first_question(example: Example) -> str:
    """Return the id of a prompt that ends with the first turn of its user."""
    places = (n for n, message in enumerate(example.messages, 1) if message.role == "user")
    return prompt_id(example.messages[: next(places, None)])
