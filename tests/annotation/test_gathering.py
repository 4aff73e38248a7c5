"""Items from files: joined by prompt, every row that is left out told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.annotation.item_gathering import gather
from align.errors import ConfigError, DataError


def write(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(prompt: str, completion: str) -> dict:
    """A row as `align generate` writes it."""
    return {"prompt": [{"role": "user", "content": prompt}], "completion": completion, "tokens": 3, "finished": True}


def test_joined_by_prompt(tmp_path: Path) -> None:
    files = {
        "sft": write(tmp_path / "a", row("p1", "a1"), row("p2", "a2"), row("p1", "again"), row("only a", "x")),
        "dpo": write(tmp_path / "b", row("p2", "b2"), row("p1", " "), {"prompt": "p3"}, row("p4", "a\0b")),
    }
    found = gather(files, "pairs")
    assert {(i.prompt[0]["content"], i.responses, i.names) for i in found.items} == {
        ("p1", ("a1", " "), ("sft", "dpo")),
        ("p2", ("a2", "b2"), ("sft", "dpo")),
    }
    assert found.notes == [
        "sft: 3 prompts of 4 rows, left out 1 with a prompt that stands twice (line 3)",
        "dpo: 2 prompts of 4 rows, left out 1 without a response (line 3), 1 with a NUL character in the text (line 4)",
        "1 prompts have no response of dpo: left out",
        "1 empty responses are shown as empty; export leaves their pairs out",
    ]


def test_three_files_make_every_pair_or_one_list(tmp_path: Path) -> None:
    files = {name: write(tmp_path / name, row("p", name), row("q", "same")) for name in ("x", "y", "z")}
    found = gather(files, "pairs")
    pairs = {("x", "y"), ("x", "z"), ("y", "z")}
    assert {i.names for i in found.items if i.asked} == pairs
    assert "3 items with the same text on all sides are not asked and count as ties" in found.notes
    assert {i.responses: i.asked for i in gather(files, "best_worst").items} == {
        ("x", "y", "z"): True,
        ("same", "same", "same"): False,
    }


def test_one_file_of_lists(tmp_path: Path) -> None:
    listed = {"prompt": "p", "completions": ["a", "b", "c"], "origins": ["sft", "dpo", "dpo"]}
    pair = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    path = write(tmp_path / "l", listed, listed, pair, {"prompt": "r", "completions": ["alone"]})
    (item,) = gather(path, "best_worst").items
    assert (item.responses, item.names) == (("a", "b", "c"), ("sft", "dpo", "dpo"))
    found = gather(path, "pairs")
    assert len(found.items) == 4
    assert ("response 1", "response 2") in {i.names for i in found.items}
    assert "1 with fewer than two responses (line 4)" in found.notes[0]
    assert "1 that stand twice (line 2)" in found.notes[0]


def test_order_is_the_seeds_and_limit_takes_its_start(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "completions": ["a", "b"]} for n in range(20)]
    path = write(tmp_path / "l", *rows)

    def order(**options: int) -> list[str]:
        return [i.prompt[0]["content"] for i in gather(path, "pairs", **options).items]

    assert order() == order(seed=0) != [r["prompt"] for r in rows]
    assert order(seed=1) != order()
    assert order(limit=5) == order()[:5]


def test_mistakes(tmp_path: Path) -> None:
    one, lists = write(tmp_path / "a", row("p", "x")), write(tmp_path / "l", {"prompt": "p", "completions": ["a", "b"]})
    other = write(tmp_path / "b", row("q", "x"))
    for files, says in [
        ({"a": one}, "name two or more"),
        ({"a": one, "b": lists}, "completions.b: line 1 .* has 2 responses"),
        ({"a": one, "b": other}, "no prompt has two responses .*1 prompts have no response of b"),
    ]:
        with pytest.raises(ConfigError, match=says):
            gather(files, "pairs")
    with pytest.raises(ConfigError, match="no prompt has three responses"):
        gather(lists, "best_worst")
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        gather(lists, "pairs", limit=0)
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="empty"):
        gather(str(tmp_path / "empty"), "pairs")
