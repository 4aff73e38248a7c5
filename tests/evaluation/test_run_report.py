"""Reports on runs: hostile text, what a page and its tables show, folders with missing pieces."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.utils.tensorboard import SummaryWriter

from align.callbacks.samples import table
from align.cli.main import main
from align.errors import ConfigError, DataError
from align.evaluation.report_inputs import gather
from align.evaluation.run_reader import read_run
from align.models.condition_file import write_condition_file
from align.records import Instructions

HOSTILE = (
    "<script>alert(1)</script>",
    "</pre></div><img src=x onerror=alert(1)>",
    "</style><style>*{display:none}</style><meta http-equiv=refresh content='0;url=http://x'>",
    '"><svg onload=alert(1)><a href="javascript:alert(1)">a</a>',
    "{{ 7 * 7 }} {% raw %} $\\frac$ | **x** [a](javascript:alert(1)) `y`",
)
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "tr", "th", "td"),
    *("picture", "source", "img", "pre", "span", "b", "ul", "li"),
}


class Page(HTMLParser):
    """Collects what a browser would act on, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    return page


def write_run(folder: Path, config: dict[str, Any], *, samples: list[tuple[str, str]] = [], layers: int = 0) -> Path:  # noqa: B006
    with SummaryWriter(str(folder)) as writer:
        for step in range(30):
            writer.add_scalar("train/loss", 1 / (step + 1), step)
            for layer in range(layers):
                writer.add_scalar(f"train/layer_{layer:02d}/fve", step / 30, step)
        if samples:
            writer.add_text("samples", table(samples), global_step=1)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def write_evaluation(folder: Path, rewards: dict[str, list[float]], texts: list[str], **more: Any) -> Path:
    (folder / "completions").mkdir(parents=True)
    models, files = {}, {}
    for place, (name, values) in enumerate(rewards.items()):
        mean = sum(values) / len(values)
        parts = {"total": {"raw": [mean, mean - 1, mean + 1], "sigmoid": [50, 40, 60], "prompts": len(values)}}
        models[name] = {
            "0.0": {"rewards": {"rm": parts}, "text": {"mean_words": 3.0}, "kl": None, "per_prompt": {"rm": values}}
        }
        files[name] = {"0.0": f"completions/{place}.jsonl"}
        rows = [
            {"index": i, "prompt": [{"role": "user", "content": t}], "completion": t, "ids": []}
            for i, t in enumerate(texts)
        ]
        (folder / files[name]["0.0"]).write_text("\n".join(map(json.dumps, rows)))
    settings = {"fingerprint": "f", "sampling": {"temperatures": [0.0]}, "against": "references"}
    content = {"settings": settings, "completions": files, "models": models, "judge": {}, **more}
    (folder / "evaluation.json").write_text(json.dumps(content))
    return folder


@pytest.mark.injection
def test_hostile_text_is_inert(tmp_path: Path) -> None:
    name = "<b>run</b>$x$"
    config = {"model": {"class_path": HOSTILE[0]}, "seed_everything": HOSTILE[1]}
    samples = [(HOSTILE[2], text) for text in HOSTILE]
    one = write_run(tmp_path / name, config, samples=samples, layers=2)
    two = write_run(tmp_path / "two", {"model": {"class_path": HOSTILE[3]}})
    (one / "alignment.png").write_bytes(b"<script>")  # no PNG, left out
    models = {str(one): [1.0, 2.0], HOSTILE[0]: [0.0, 1.0]}
    measured = write_evaluation(tmp_path / "evaluation", models, list(HOSTILE[:2]))
    for folders, shown in (([one, two], HOSTILE), ([one, two, measured], HOSTILE[:2])):
        assert main(["report", *map(str, folders), "--out", "out/page.html", "--title", HOSTILE[0]]) == 0
        check_inert(read(Path("out/page.html")), shown)
        tables = Path("out/page.md").read_text()
        assert "<" not in tables
        assert "](" not in tables
        assert all(line.count("|") == tables_width(tables, line) for line in tables.splitlines() if line[:1] == "|")


def check_inert(page: Page, shown: Sequence[str]) -> None:
    """Only the page's own tags, no handler, style or link, and nothing that is fetched."""
    assert {tag for tag, _ in page.tags} <= ALLOWED
    for tag, attributes in page.tags:
        assert not any(key.startswith("on") or key in ("href", "style") for key in attributes), tag
        for source in (attributes.get("src"), attributes.get("srcset")):
            assert source is None or source.startswith(("data:image/svg+xml;", "data:image/png;")), tag
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    for text in shown:
        assert text in page.text  # as it was written


def tables_width(text: str, line: str) -> int:
    """Return how many bars the rule of the table of this line has."""
    lines = text.splitlines()
    place = lines.index(line)
    while not lines[place].startswith("| ---"):
        place += -1 if lines[place - 1].startswith("|") else 1
    return lines[place].count("|")


def test_winner_is_marked_on_page_and_table(tmp_path: Path) -> None:
    draw = random.Random(0)
    base = [draw.gauss(0, 1) for _ in range(50)]
    clear = {"one": base, "two": [v + 1 for v in base]}
    write_evaluation(tmp_path / "clear", clear, [])
    write_evaluation(tmp_path / "noise", {"one": base, "two": base[::-1]}, [])
    assert main(["report", "clear", "--out", "clear.html"]) == 0
    assert main(["report", "noise", "--out", "noise.html"]) == 0
    assert 'td class="best"' in Path("clear.html").read_text()
    assert "| **1" in Path("clear.md").read_text() or "| **0." in Path("clear.md").read_text()
    assert 'td class="best"' not in Path("noise.html").read_text()
    assert "**" not in Path("noise.md").read_text()


def test_models_of_two_evaluations_meet(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "a", {"one": [1.0, 2.0]}, [])
    write_evaluation(tmp_path / "b", {"two": [0.0, 3.0]}, [])
    found = gather(["a", "b"])
    assert [list(e.models) for e in found.evaluations] == [["one", "two"]]
    other = json.loads(Path("b/evaluation.json").read_text())
    other["settings"]["fingerprint"] = "g"
    Path("b/evaluation.json").write_text(json.dumps(other))
    assert len(gather(["a", "b"]).evaluations) == 2
    write_evaluation(tmp_path / "c", {"one": [1.0, 7.0]}, [])
    with pytest.raises(DataError, match="disagree on one"):
        gather(["a", "c"])


def test_how_each_model_was_asked(tmp_path: Path) -> None:
    """Of an evaluation as it says, of a run as its folder does, also where its logs hold how it was asked."""
    run = write_run(tmp_path / "hir", {"model": {"class_path": "HIRModule"}})
    (run / "rewards.jsonl").write_text('{"step": 1, "rm": 0.5, "asked": "under the positive instruction"}\n')
    asked = {
        "a": {"path": "a", "told": "plain", "text": ""},
        "b": {"path": "b", "told": "direction 1", "text": "be <i>"},
    }
    found = write_evaluation(tmp_path / "e", {"a": [1.0], "b": [2.0], "c": [math.nan]}, ["t"], asked=asked)
    assert main(["report", str(run), str(found), "--out", str(tmp_path / "r.html")]) == 0
    shown = (tmp_path / "r.md").read_text()
    for row in ("| a | plain |  |", "| b | direction 1 | be &#60;i&#62; |", "| c | plainly |  |"):
        assert row in shown
    assert "| under the positive instruction |" in shown
    assert "nan" not in shown
    assert "be &lt;i&gt;" in (tmp_path / "r.html").read_text()
    (model := run / "model").mkdir()
    write_condition_file(Instructions("Be good.", "Be bad."), model)
    (model / "config.json").write_text("{}")
    assert read_run(run).asked == "under the positive instruction"


@pytest.mark.injection
def test_completions_stay_inside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text(json.dumps({"index": 0, "prompt": [], "completion": "SECRET"}))
    folder = write_evaluation(tmp_path / "a", {"one": [1.0]}, [])
    content = json.loads((folder / "evaluation.json").read_text())
    content["completions"] = {"one": {"0.0": "../secret.jsonl"}}
    (folder / "evaluation.json").write_text(json.dumps(content))
    assert main(["report", "a", "--out", "page.html"]) == 0
    assert "SECRET" not in Path("page.html").read_text()


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "parent" / "inner", {"seed_everything": 1})
    with pytest.raises(ConfigError, match=r"looked for config.yaml .*evaluation.json.*front.json"):
        gather(["empty"])
    with pytest.raises(ConfigError, match="such as parent/inner"):
        gather(["parent"])
    with pytest.raises(ConfigError, match="no such folder"):
        gather(["nowhere"])
    for content in ("{", "[]", '{"settings": {}, "models": {"a": {"0": {}}}, "judge": {}}'):
        Path("empty/evaluation.json").write_text(content)
        with pytest.raises(DataError, match="no results of `align evaluate`"):
            gather(["empty"])
    Path("parent/inner/config.yaml").write_text("a: &x [1]\nb: *x")
    assert main(["report", "parent/inner"]) == 2
    assert "YAML with aliases" in capsys.readouterr().err
    assert main(["report"]) == 2


def test_layers_and_directions_have_their_sections(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"seed_everything": 3}, layers=3)
    front = {"name": "dpa", "attributes": ["help", "words"], "points": [{"label": "0"}, {"label": "45"}]}
    front["rewards"] = [[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [2.0, 1.0]]]
    (tmp_path / "swept").mkdir()
    Path("swept/front.json").write_text(json.dumps(front))
    assert main(["report", str(run), "swept", "--out", "page.html"]) == 0
    page = read(Path("page.html"))
    assert "Representations by layer" in page.text
    assert "share of the target reached (FVE) by layer and step" in str(page.tags)
    table_text = Path("page.md").read_text()
    assert "| dpa, 45 | 1.000 [0.000, 2.000] | 1.000 [1.000, 1.000] |" in table_text
    front["rewards"] = [[[1.0, 2.0]]]
    Path("swept/front.json").write_text(json.dumps(front))
    with pytest.raises(DataError, match="no file of `align front measure`"):
        gather(["swept"])
