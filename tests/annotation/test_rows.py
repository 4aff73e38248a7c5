"""Judgments as training data, read back by the data module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from align.annotation.annotation_store import AnnotationStore
from align.annotation.form import Field, RatingScale
from align.annotation.items import AnnotationItem, Choice
from align.cli.main import main
from align.data.preference_file import PreferenceFile, PreferenceFileDataModule
from align.data.scored_lists import ScoredLists
from align.data.source import Report
from align.data.splits import Splits
from tests.data.test_module import needs
from tests.tiny import tiny_tokenizer

DIALOGUE = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello\n  there"},
    {"role": "user", "content": "Go on"},
]


def judge(items: list[AnnotationItem], choices: list[dict[str, Choice | None]], task: str = "pairs") -> None:
    """Fill `a.sqlite` by what raters said of each item, by response."""
    store = AnnotationStore(Path("a.sqlite"), create=True)
    store.begin(items, task, "Which?")
    store.add_raters(["ann", "bob"])
    for item, said in zip(items, choices, strict=True):
        for rater in store.raters():
            choice = said.get(rater.name)
            if choice is None:
                continue
            order = store.show(rater.id, item.id).order
            shown = Choice(*[None if i is None else order.index(i) for i in choice])
            store.submit(rater.id, item.id, shown, key=f"{item.id}-{rater.name}", replaces=None)
    store.close()


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[list[dict], str]]:
    def run(*words: str, code: int = 0) -> tuple[list[dict], str]:
        assert main(["annotate", "export", "--store", "a.sqlite", "--out", "out/rows.jsonl", *words]) == code
        told = capsys.readouterr()
        rows = Path("out/rows.jsonl").read_text().splitlines() if code == 0 else []
        return [json.loads(row) for row in rows], told.out + told.err

    return run


def item(prompt: list[dict] | str, *responses: str) -> AnnotationItem:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return AnnotationItem.new(turns, responses, [f"model {n}" for n in range(len(responses))])


A, B, TIE = Choice(0, 1), Choice(1, 0), Choice(None, None)


@pytest.fixture
def pairs() -> list[AnnotationItem]:
    items = [
        item(DIALOGUE, "  yes\n\n\tindeed ", "no"),
        item("second", "left", "right"),
        item("tied", "one", "two"),
        item("empty", "", "something"),
        item("not judged", "l", "r"),
    ]
    both = {"ann": A, "bob": A}
    judge(items, [both, {"ann": B}, {"ann": A, "bob": B}, {"ann": B}, {}])
    return items


def test_pairs(pairs: list[AnnotationItem], export: Callable) -> None:
    rows, told = export()
    assert "2 pairs of 4 judged items, left out: 1 tied, 1 with an empty response" in told
    assert rows[0] == {
        "id": f"{pairs[0].id}-0-1",
        "prompt": DIALOGUE,
        "chosen": [{"role": "assistant", "content": "  yes\n\n\tindeed "}],
        "rejected": [{"role": "assistant", "content": "no"}],
        "score_chosen": 1.0,
        "score_rejected": 0.0,
        "chosen_from": "model 0",
        "rejected_from": "model 1",
        "raters": ["ann", "bob"],
    }
    assert (rows[1]["chosen"][0]["content"], rows[1]["chosen_from"]) == ("right", "model 1")


def test_the_data_module_reads_pairs(pairs: list[AnnotationItem], export: Callable) -> None:
    export("--ties", "both")
    data = PreferenceFileDataModule("out/rows.jsonl", splits=Splits(0.0, 0.0))
    data.connect(needs(limit=2048))
    groups = data.groups["train"]
    tokenizer = tiny_tokenizer()
    responses = [  # the transcript template trims
        [tokenizer.decode(ids[:-1]).strip() for ids in group.response_ids] for group in groups[range(len(groups))]
    ]
    assert sorted(responses) == [["one", "two"], ["right", "left"], ["two", "one"], ["yes\n\n\tindeed", "no"]]
    (example,) = [e for e in PreferenceFile("out/rows.jsonl").read("train", Report()) if len(e.messages) == 4]
    assert [m.as_turn() for m in example.messages] == DIALOGUE


def test_ties_kept_are_ties_to_the_reader(pairs: list[AnnotationItem], export: Callable) -> None:
    rows, _ = export("--ties", "keep")
    assert [r["score_chosen"] for r in rows] == [1.0, 1.0, 0.5]
    examples = PreferenceFile("out/rows.jsonl").read("train", Report())
    assert [e.ranking for e in examples] == [((0,), (1,)), ((0,), (1,)), ((0, 1),)]


def test_each_judgment_by_itself(pairs: list[AnnotationItem], export: Callable) -> None:
    rows, told = export("--votes", "each")
    assert "5 pairs of 6 judged items" in told
    assert [(r["raters"], r["chosen_from"]) for r in rows] == [
        (["ann"], "model 0"),
        (["bob"], "model 0"),
        (["ann"], "model 1"),
        (["ann"], "model 0"),
        (["bob"], "model 1"),
    ]
    assert len({r["id"] for r in rows}) == 5


@pytest.fixture
def lists() -> None:
    items = [item("p", "a", "b", "c", "d"), item("q", "e", "f", "", "g")]
    judge(items, [{"ann": Choice(2, 0), "bob": Choice(2, 1)}, {"ann": TIE}], "best_worst")


def test_lists(lists: None, export: Callable) -> None:
    rows, told = export("--rows", "lists")
    assert "1 lists of 2 judged items, left out: 1 tied" in told
    assert (rows[0]["completions"], rows[0]["scores"]) == (["a", "b", "c", "d"], [0.25, 0.25, 1.0, 0.5])
    (example,) = PreferenceFile("out/rows.jsonl").read("train", Report())
    (group,) = ScoredLists().groups(example)
    assert (group.responses[0], group.scores[0][0]) == ("c", 1.0)
    rows, _ = export("--rows", "lists", "--ties", "keep")
    assert (rows[1]["completions"], rows[1]["scores"]) == (["e", "f", "g"], [0.5, 0.5, 0.5])


def test_pairs_out_of_lists(lists: None, export: Callable) -> None:
    """Ann: c > b, d > a; Bob: c > a, d > b. Together c beats all, and b, d (and a, d) were compared by one of them."""
    rows, told = export()
    found = {(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows}
    assert found == {("c", "a"), ("c", "b"), ("c", "d"), ("d", "a"), ("d", "b")}
    assert "4 tied, 3 with an empty response" in told  # a and b, and the three of the second item


def test_mistakes(pairs: list[AnnotationItem], export: Callable) -> None:
    assert "is for --rows pairs" in export("--rows", "lists", "--ties", "both", code=2)[1]
    Path("a.sqlite").unlink()
    assert "no such store" in export(code=2)[1]
    judge([item("p", "a", "b")], [{}])
    assert "no judgments yet (1 items)" in export(code=2)[1]
    Path("a.sqlite").unlink()
    judge([item("p", "a", "b")], [{"ann": TIE}])
    assert "no judgment makes a row (left out: 1 tied)" in export(code=2)[1]
    assert not Path("out").exists()


class TestRatings:
    @pytest.fixture
    def rated(self) -> list[AnnotationItem]:
        """Two raters of two items; on the first they prefer the left response and rate the right one higher."""
        items = [item("first", "left", "right"), item("second", "same good", "also good"), item("third", "l", "r")]
        store = AnnotationStore(Path("a.sqlite"), create=True)
        store.begin(items, "pairs", "Which?", (RatingScale(required=False).field(), Field("harm", "Harmful?")))
        store.add_raters(["ann", "bob"])
        said = {
            ("ann", 0): ([4, 6], ["no", None]),
            ("bob", 0): ([3, 6], ["no", "yes"]),
            ("ann", 1): ([5, 5], [None, None]),
            ("ann", 2): ([5, None], [None, None]),
        }
        for rater in store.raters():
            for n, one in enumerate(items):
                if (rater.name, n) in said:
                    order = store.show(rater.id, one.id).order
                    ratings, harm = said[rater.name, n]
                    shown = {"rating": [ratings[i] for i in order], "harm": [harm[i] for i in order]}
                    choice = Choice(order.index(0), order.index(1))
                    key = f"{one.id}-{rater.name}"
                    store.submit(rater.id, one.id, choice, key=key, replaces=None, remarks=shown)
        store.close()
        return items

    def test_choices_order_and_ratings_stand_beside(self, rated: list[AnnotationItem], export: Callable) -> None:
        rows, _ = export()
        assert (rows[0]["chosen"][0]["content"], rows[0]["score_chosen"]) == ("left", 1.0)
        assert rows[0]["chosen_remarks"] == {"rating": 3.5, "harm": {"yes": 0, "no": 2}}
        assert rows[0]["rejected_remarks"] == {"rating": 6.0, "harm": {"yes": 1, "no": 0}}

    def test_ratings_order_pairs(self, rated: list[AnnotationItem], export: Callable) -> None:
        rows, told = export("--scores", "ratings")
        assert "1 pairs of 3 judged items, left out: 1 tied, 1 without two ratings" in told
        assert (rows[0]["chosen"][0]["content"], rows[0]["score_chosen"], rows[0]["score_rejected"]) == (
            "right",
            6,
            3.5,
        )
        (example,) = PreferenceFile("out/rows.jsonl").read("train", Report())
        assert [row[0] for row in example.scores] == [6.0, 3.5]

    def test_ratings_are_scores_of_lists(self, rated: list[AnnotationItem], export: Callable) -> None:
        rows, told = export("--rows", "lists", "--scores", "ratings", "--ties", "keep")
        assert [row["scores"] for row in rows] == [[3.5, 6.0], [5.0, 5.0]]
        assert "1 with fewer than two responses that are not empty and rated" in told
        first, _ = PreferenceFile("out/rows.jsonl").read("train", Report())
        (group,) = ScoredLists().groups(first)
        assert (group.responses, group.scores) == (("right", "left"), ((6.0,), (3.5,)))

    def test_rated_responses(self, rated: list[AnnotationItem], export: Callable) -> None:
        rows, told = export("--rows", "responses")
        assert [(row["completion"], row["rating"]) for row in rows] == [
            ("left", 3.5),
            ("right", 6.0),
            ("same good", 5.0),
            ("also good", 5.0),
            ("l", 5.0),
        ]
        assert "left out: 1 without a rating" in told
        found = list(PreferenceFile("out/rows.jsonl").read("train", Report()))
        assert [(e.attributes, e.scores) for e in found[:2]] == [(("rating",), ((3.5,),)), (("rating",), ((6.0,),))]

    def test_one_row_for_each_rater(self, rated: list[AnnotationItem], export: Callable) -> None:
        rows, _ = export("--scores", "ratings", "--votes", "each")
        assert [(row["score_chosen"], row["score_rejected"]) for row in rows] == [(6, 4), (6, 3)]

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--rows", "responses", "--scores", "ratings"], "--scores: orders responses"),
            (["--rows", "responses", "--ties", "keep"], "--ties: orders responses"),
        ],
    )
    def test_responses_have_no_order(
        self, rated: list[AnnotationItem], export: Callable, words: list[str], line: str
    ) -> None:
        assert line in export(*words, code=2)[1]

    @pytest.mark.parametrize("words", [["--scores", "ratings"], ["--rows", "responses"]])
    def test_a_store_without_ratings(self, pairs: list[AnnotationItem], export: Callable, words: list[str]) -> None:
        assert f"{' '.join(words)}: a.sqlite has no ratings: they are asked" in export(*words, code=2)[1]
