"""The judgments of a store, as the verbs of `align annotate` read them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from align.annotation.annotation_store import AnnotationStore, RaterJudgment
from align.annotation.form import Field
from align.annotation.items import AnnotationItem
from align.annotation.labellers import Answers
from align.errors import ConfigError
from align.files import atomic_file

STORE = "runs/annotation.sqlite"


class Kept(NamedTuple):
    """What a store holds."""

    items: list[AnnotationItem]
    judgments: list[RaterJudgment]
    fields: tuple[Field, ...]
    questions: tuple[Field, ...]
    """What raters were asked about themselves."""
    labellers: dict[str, Answers]


def read_judgments(store: str) -> Kept:
    """Return what a store holds. Raises ConfigError for one without judgments."""
    opened = AnnotationStore(Path(store))
    try:
        about, labellers = opened.labellers.questions(), opened.labellers.by_name()
        kept = Kept(opened.items(), opened.judgments(), opened.fields(), about, labellers)
    finally:
        opened.close()
    if not kept.judgments:
        raise ConfigError(f"{store}: no judgments yet ({len(kept.items)} items)")
    return kept


def write_text(path: Path, text: str) -> None:
    """Write a file whole, and its folder."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
