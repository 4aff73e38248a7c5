"""Who rates: asked once, on scales and questions out of files, kept, exported, and agreement within groups."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from align.annotation.access import Access
from align.annotation.annotation_store import AnnotationStore
from align.annotation.items import QUESTIONS
from align.annotation.server import application
from align.cli.annotation_form import form_of, labeller_form
from align.cli.main import main
from align.errors import ConfigError, StoreError
from align.evaluation.krippendorff import krippendorff_alpha
from tests.annotation.service import ROOT, pairs

ORIGIN = "http://127.0.0.1:9"
SHIPPED = ROOT / "configs" / "annotation"
ABOUT = """
- {name: id, question: Your identifier, required: true}
- {name: age, values: [under 40, 40 or over]}
"""
SCALES = """
- {name: helpful, low: 1, high: 5, high_label: very, question: How helpful?}
- {name: rating, low: 0, high: 3}
- {name: harm, question: Harmful?}
"""


class Person:
    """One rater's browser, as far as the server can tell."""

    def __init__(self, store: AnnotationStore, name: str) -> None:
        (rater,) = [r for r in store.raters() if r.name == name]
        access = Access(store.setting("secret"), store.raters())
        self.client = TestClient(application(store, access, [ORIGIN]), base_url=ORIGIN, headers={"origin": ORIGIN})
        self.path = self.client.post("/enter", json={"token": access.link_token(rater)}).json()["path"]
        self.client.headers["x-form-token"] = self.state["form_token"]

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(self.path + "state").json()
        return found

    def answer(self, **answers: Any) -> tuple[int, str]:
        reply = self.client.post(self.path + "labeller", json={"answers": answers})
        return reply.status_code, reply.json().get("error", "")

    def judge(self, number: int, ratings: dict[str, dict[str, Any]], best: str) -> tuple[int, str]:
        """Judge an item by the beginnings of its responses."""
        item = self.client.get(f"{self.path}item/{self.state['items'][number]['id']}").json()
        said = {name: [values[text.split()[0]] for text in item["responses"]] for name, values in ratings.items()}
        place = next(n for n, text in enumerate(item["responses"]) if text.startswith(best))
        body = {"item": item["id"], "best": place, "worst": 1 - place, "replaces": None, "remarks": said}
        reply = self.client.post(self.path + "judgment", json={**body, "key": f"{self.path[3:-1]}-{number:04}"})
        return reply.status_code, reply.json().get("error", "")


def begun(raters: list[str], *, scales: str = SCALES, about: str | None = ABOUT, items: int = 6) -> AnnotationStore:
    Path("scales.yaml").write_text(scales)
    Path("about.yaml").write_text(about or "")
    store = AnnotationStore(Path("a.sqlite"), create=True)
    fields = form_of(None, "scales.yaml")
    store.begin(pairs(items), "pairs", QUESTIONS["pairs"], fields, labeller_form(about and "about.yaml"))
    store.add_raters(raters)
    return store


def test_asked_once_kept_and_never_changed() -> None:
    store = begun(["ann", "bob"])
    ann = Person(store, "ann")
    assert [(f["name"], f["values"], f["required"]) for f in ann.state["labeller"]] == [
        ("id", [], True),
        ("age", ["under 40", "40 or over"], False),
    ]
    ratings = {"helpful": {"left": 5, "right": 1}, "rating": {"left": 3, "right": 0}}
    assert ann.judge(0, ratings, "left") == (409, "first answer the questions about yourself: load the page again")
    assert store.judgments() == []
    refused: list[tuple[dict[str, Any], str]] = [
        ({}, "id must be answered: Your identifier"),
        ({"id": "  "}, "id must be answered"),
        ({"id": 3}, "id must be a text of at most 200 printable characters, or null"),
        ({"id": "a\x00"}, "printable"),
        ({"id": "x" * 201}, "at most 200"),
        ({"id": "a", "age": "41"}, "age must be under 40, 40 or over, or null"),
        ({"id": "a", "height": "1"}, "answers must be by id, age"),
    ]
    for answers, told in refused:
        status, error = ann.answer(**answers)
        assert (status, told in error) == (422, True), error
    assert ann.answer(id=" worker-7 ", age="under 40") == (200, "")
    assert ann.answer(id="worker-7", age="under 40") == (200, "")  # sent again
    assert ann.answer(id="worker-8") == (409, "these questions were answered in another tab: nothing was changed")
    assert ann.state["labeller"] == []
    assert Person(store, "ann").state["labeller"] == []
    assert len(Person(store, "bob").state["labeller"]) == 2
    assert ann.judge(0, {"helpful": ratings["helpful"]}, "left") == (422, "rating is asked of every response")
    assert ann.judge(0, ratings, "left")[0] == 200
    again = AnnotationStore(Path("a.sqlite"))
    assert again.labellers.by_name() == {"ann": {"id": "worker-7", "age": "under 40"}}
    del ann.client.headers["x-form-token"]
    assert ann.answer(id="worker-7", age="under 40")[0] == 403
    with pytest.raises(ConfigError, match="was begun with other labeller"):
        again.begin(again.items(), "pairs", QUESTIONS["pairs"], again.fields())


def test_nobody_is_asked_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    store = begun(["ann"], about=None)
    ann = Person(store, "ann")
    assert ann.state["labeller"] == []
    assert ann.judge(0, {"helpful": {"left": 5, "right": 1}, "rating": {"left": 3, "right": 0}}, "left")[0] == 200
    assert main(["annotate", "export", "--store", "a.sqlite", "--out", "rows.jsonl"]) == 0
    row = json.loads(Path("rows.jsonl").read_text())
    assert row["raters"] == ["ann"]
    assert "labellers" not in row


def rated(number: int, *, off: int = 0) -> dict[str, dict[str, Any]]:
    return {
        "helpful": {"left": 1 + (number + off) % 5, "right": 1 + (2 * number + off) % 5},
        "rating": {"left": number % 4, "right": 3},
    }


def test_scales_by_file_exported_and_agreement_within_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """Ann and Bob, under 40, say the same; Cat and Dan, over it, do not; Eve is alone."""
    store = begun(["ann", "bob", "cat", "dan", "eve"], about=ABOUT.replace("40 or over]", "40 or over, unsaid]"))
    ages = {"ann": "under 40", "bob": "under 40", "cat": "40 or over", "dan": "40 or over", "eve": "unsaid"}
    for name, age in ages.items():
        person = Person(store, name)
        assert person.answer(id=f"worker {name}", age=age)[0] == 200
        for number in range(1 if name == "eve" else 6):
            assert person.judge(number, rated(number, off=name == "dan"), "left")[0] == 200
    assert main(["annotate", "results", "--store", "a.sqlite", "--out", "r.json"]) == 0
    shown = capsys.readouterr().out
    assert "alpha within groups of raters" in shown
    assert "agreement within groups needs 10 things rated twice in the group; too few: age unsaid" in shown
    found = json.loads(Path("r.json").read_text())
    within = {(g["answer"], g["found"]["question"], g["found"]["level"]): g for g in found["alpha_within"]}
    assert within["under 40", "helpful", "interval"]["found"]["alpha"][0] == 1.0
    assert within["under 40", "helpful", "interval"]["raters"] == 2
    units = [[rated(n)["helpful"][s], rated(n, off=1)["helpful"][s]] for n in range(6) for s in ("left", "right")]
    apart = within["40 or over", "helpful", "interval"]["found"]
    assert apart["alpha"][0] == pytest.approx(krippendorff_alpha(units, range(1, 6), "interval"))
    assert apart["items"] == 12
    assert {key[0] for key in within} == {"under 40", "40 or over"}
    assert found["labellers"]["eve"] == {"id": "worker eve", "age": "unsaid"}
    means = {s["name"]: s["mean"][0] for s in found["remarks"] if s["field"] == "rating"}
    assert list(means.values()) == [pytest.approx(7 / 6), 3.0]

    words = ("--store", "a.sqlite", "--out", "rows.jsonl")
    assert main(["annotate", "export", *words, "--rows", "responses", "--votes", "each"]) == 0
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    (row,) = [
        r for r in rows if r["raters"] == ["dan"] and r["prompt"][0]["content"] == "prompt 2" and r["rating"] == 2
    ]
    assert row["labellers"] == [{"id": "worker dan", "age": "40 or over"}]
    assert row["remarks"] == {"helpful": 4.0, "rating": 2.0, "harm": {"yes": 0, "no": 0}}
    assert main(["annotate", "export", *words, "--scores", "ratings"]) == 0
    first = json.loads(Path("rows.jsonl").read_text().splitlines()[0])
    assert (first["score_chosen"], first["score_rejected"]) == (3.0, 0.0)
    assert [labeller["age"] for labeller in first["labellers"]] == list(ages.values())


def test_shipped_forms() -> None:
    rating = form_of(None, str(SHIPPED / "instruct_gpt.yaml"))[0]
    assert (rating.name, rating.values, rating.required) == ("rating", tuple(range(1, 8)), True)
    names = [question.name for question in labeller_form(str(SHIPPED / "labeller.yaml"))]
    assert names[:3] == ["id", "gender", "age"]
    assert not any(question.required for question in labeller_form(str(SHIPPED / "labeller.yaml")))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- {question: a}", "labeller about.yaml, field 1: expected name, question, values and required"),
        ("- {name: a, low: 1, high: 3}", "labeller about.yaml, field 1: expected name, question, values and required"),
        ("- {name: a, values: [x]}", "labeller about.yaml, field 1: values must be 2 to 60 different texts"),
        ("- {name: a, values: [yes, no]}", "labeller about.yaml, field 1: values must be texts (in YAML quote yes"),
        ("- {name: 3}", "labeller about.yaml, field 1: name and question must be texts"),
        ("- {name: a}\n- {name: a}", "labeller about.yaml: 'a' stands twice"),
    ],
)
def test_questions_amiss(text: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("about.yaml").write_text(text)
    assert main(["annotate", "serve", "--completions", "x", "--labeller", "about.yaml"]) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert line in told


def test_a_store_of_before_goes_on() -> None:
    store = begun(["ann"], about=None)
    store.close()
    with sqlite3.connect("a.sqlite") as db:
        db.execute("DROP TABLE labeller")
        db.execute("DELETE FROM setting WHERE name = 'labeller'")
        db.execute("PRAGMA user_version = 2")
    again = AnnotationStore(Path("a.sqlite"))
    assert Person(again, "ann").state["labeller"] == []
    again.begin(again.items(), "pairs", QUESTIONS["pairs"], again.fields())
    again.close()
    with sqlite3.connect("a.sqlite") as db:
        db.execute("PRAGMA user_version = 4")
    with pytest.raises(StoreError, match="newer"):
        AnnotationStore(Path("a.sqlite"))
