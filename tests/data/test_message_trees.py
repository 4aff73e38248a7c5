"""Open Assistant's trees of messages, one to a row or a message to a row: what people replied, and how others ranked it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from align.data.message_trees import trees_of
from align.data.preference_file import PreferenceFile
from align.data.source import Report
from align.data.splits import Splits, divide_source
from align.data.telling import warning
from align.data.views import Pairs, RankedLists, Singles
from align.errors import ConfigError, DataError
from align.records import Example
from tests.data.rows import written
from tests.data.test_layouts import read

Row = dict[str, Any]


def node(text: str, *replies: Row, rank: int | None = None, **more: Any) -> Row:
    return {"message_id": text, "text": text, "rank": rank, "lang": "en", "replies": list(replies), **more}


def tree(name: str = "Hi") -> Row:
    """Two answers, the second of which is better and is asked about; three replies to that, one of them deleted."""
    replies = [node(f"{name} {text}", rank=rank) for text, rank in (("c", 2), ("a", 0), ("b", 1))]
    asked = node(f"{name} and?", *replies, node("gone", rank=3, deleted=True))
    first = node(name, node(f"{name} bad", rank=1), node(f"{name} good", asked, rank=0))
    return {"message_tree_id": name, "tree_state": "ready_for_export", "prompt": roles(first, "prompter")}


def roles(message: Row, role: str, parent: str | None = None) -> Row:
    other = "assistant" if role == "prompter" else "prompter"
    replies = [roles(reply, other, message["message_id"]) for reply in message["replies"]]
    return {**message, "role": role, "parent_id": parent, "replies": replies}


def flat(message: Row) -> list[Row]:
    own = {name: value for name, value in message.items() if name != "replies"}
    return [own, *(row for reply in message["replies"] for row in flat(reply))]


def told(examples: list[Example]) -> list[tuple[list[str], tuple[str, ...], tuple[int, ...]]]:
    return [([m.content for m in e.messages], e.responses, e.ranks) for e in examples]


EXPECTED = [
    (["Hi"], ("Hi bad", "Hi good"), (1, 0)),
    (["Hi", "Hi good", "Hi and?"], ("Hi c", "Hi a", "Hi b"), (2, 0, 1)),
]


def test_every_message_that_was_replied_to_is_a_prompt(tmp_path: Path) -> None:
    report = Report()
    examples = read(tmp_path, tree(), report=report)
    assert told(examples) == EXPECTED
    assert report.dropped == {"reply that was deleted or rejected in review": 1}
    assert not report.odd
    assert list(report.unused) == ["prompt[].lang"]
    assert [e.id for e in examples] == ["line 1", "line 1#1"]


def test_messages_in_any_order_are_the_same_trees(tmp_path: Path) -> None:
    rows = [*flat(tree()["prompt"]), *flat(tree("Hello")["prompt"])]
    random.Random(0).shuffle(rows)
    report = Report()
    trees = told(read(tmp_path, *rows, report=report))
    found = sorted((asked, sorted(zip(ranks, said, strict=True))) for asked, said, ranks in trees)
    right = sorted((asked, sorted(zip(ranks, said, strict=True))) for asked, said, ranks in EXPECTED)
    assert [one for one in found if one[0][0] == "Hi"] == right
    assert len(found) == 4
    assert report.read == 4 + 2  # an example is a prompt with its replies; two of them were left out


def test_what_methods_make_of_them(tmp_path: Path) -> None:
    lonely = {**tree("Lonely"), "prompt": roles(node("Lonely", node("Only.")), "prompter")}
    unranked = {**tree("Unranked"), "prompt": roles(node("Unranked", node("One."), node("Two.", rank=0)), "prompter")}
    report = Report()
    examples = read(tmp_path, tree(), lonely, unranked, report=report)
    assert report.read == 5
    assert [pair.responses for pair in Pairs("best_worst").apply(examples, report)] == [
        ("Hi good", "Hi bad"),
        ("Hi a", "Hi c"),
    ]
    assert report.dropped["fewer than two responses"] == report.dropped["no ranking"] == 1
    assert str(warning(report)).startswith("only 2 of 5 rows are used: ")
    assert not report.odd  # a tree has such places by its nature
    lists = RankedLists().apply(examples, Report())
    assert [group.responses for group in lists] == [("Hi good", "Hi bad"), ("Hi a", "Hi b", "Hi c")]
    singles = Singles().apply(examples, Report())
    assert [group.responses for group in singles] == [("Hi good",), ("Hi a",), ("Only.",)]


def test_messages_that_hang_in_the_air_are_counted(tmp_path: Path) -> None:
    rows = flat(tree()["prompt"])
    report = Report()
    examples = read(tmp_path, *rows, {**rows[1], "message_id": "x", "parent_id": "nobody"}, rows[1], report=report)
    assert told(examples) == EXPECTED
    assert report.dropped["the parent of a message is not in the file"] == 1
    assert report.dropped["a message_id stands twice"] == 1
    assert report.odd == 2


def test_what_trees_are_not_for(tmp_path: Path) -> None:
    rows = flat(tree()["prompt"])
    with pytest.raises(ConfigError, match=r"keep_columns keeps columns of rows, and several rows of the layout"):
        PreferenceFile(str(written(tmp_path, *rows)), keep_columns=["lang"]).read("train", Report())
    with pytest.raises(DataError, match="neither the prompter's nor the assistant's"):
        read(tmp_path, {"prompt": {**tree()["prompt"], "role": "moderator"}})
    assert list(trees_of([])) == []


def test_ultrachat_is_said_in_turn(tmp_path: Path) -> None:
    (example,) = read(tmp_path, {"id": "1", "data": ["Hi", "Yo.", "And?", "Ok."]})
    assert [m.content for m in (*example.messages, *example.turns)] == ["Hi", "Yo.", "And?", "Ok."]
    assert example.whole


@pytest.mark.parametrize("splits", [Splits(0.3, 0.2), Splits(0.3, half="first"), Splits(0.2, folds=4, fold=1)])
def test_a_conversation_falls_into_one_split(splits: Splits, tmp_path: Path) -> None:
    """Its later turns repeat the earlier ones, which a model would be asked about after it has learned them."""
    trees = [tree(f"Hi {number}") for number in range(40)]
    divided = divide_source(PreferenceFile(str(written(tmp_path, *trees))), splits)
    firsts = {name: [e.messages[0].content for e in examples] for name, (examples, _) in divided.items()}
    assert all(count == 2 for found in firsts.values() for count in Counter(found).values())
    assert len(firsts["train"]) > 10
    assert len(firsts["val"]) > 4
    assert not set(firsts["train"]) & {*firsts["val"], *firsts["test"]}
