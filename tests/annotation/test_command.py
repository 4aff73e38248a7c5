"""The verb as a user meets it: its words, its complaints, and a server that starts, stops, and goes on."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from align.annotation.annotation_store import AnnotationStore
from align.annotation.form import RatingScale
from align.annotation.items import AnnotationItem, Choice
from align.annotation.listening import Listen
from align.cli.annotation_form import form_of
from align.cli.main import main
from align.errors import ConfigError
from tests.annotation.service import ROOT, Client, fill, pairs


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str, code: int = 2) -> str:
        assert main(["annotate", *words]) == code
        (line,) = capsys.readouterr().err.strip().splitlines()
        known = words[0] in ("serve", "results", "export")
        assert line.startswith(f"align annotate {words[0]}: " if known else "align annotate: ")
        return line

    return run


def completions(path: Path, prefix: str) -> str:
    rows = ({"prompt": f"p{n}", "completion": f"{prefix} {n}"} for n in range(3))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate"]) == main(["annotate", "--help"]) == 0
    assert capsys.readouterr().out.count("results      wins") == 2
    assert main(["annotate", "serve", "--help"]) == 0
    assert "Names of models never reach the browser" in capsys.readouterr().out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serv"], "unknown verb 'serv', did you mean 'serve'?: one of serve, results, export"),
        (["serve"], "runs/annotation.sqlite: no such store: make it with `align annotate serve --completions"),
        (["serve", "--task", "pairs"], "task, question and limit belong to the items of a new store"),
        (["serve", "--completions.a", "nowhere.jsonl", "--completions.b", "x"], "nowhere.jsonl"),
        (["serve", "--completion", "x"], "unknown setting --completion, did you mean 'completions'?"),
        (["serve", "--task", "triples"], "--task"),
        (["serve", "--raters", "[ann,ann]"], "names must be different"),
        (["serve", "--raters", '[" ann"]'], "without blanks around it, got ' ann'"),
        (["serve", "--raters", '["a\\nb"]'], "printable"),
        (["serve", "--guidelines", "nowhere.txt"], "guidelines nowhere.txt: expected a text file"),
        (["serve", "--listen.port", "70000"], "listen.port must be from 0 to 65535, got 70000"),
        (["serve", "--listen.host", "0.0.0.0"], "put a proxy with TLS before it"),
        (["serve", "--listen.address", "http://rate.example"], "must be https, or http on this machine"),
        (["serve", "--listen.address", "https://rate.example/path"], "must look like https://rate.example"),
        (
            ["serve", "--scale.high", "7"],
            "what is asked of responses and raters belongs to a new store: give --completions",
        ),
        (
            ["serve", "--fields", "f.yaml"],
            "what is asked of responses and raters belongs to a new store: give --completions",
        ),
        (["serve", "--completions", "x", "--scale.high", "1"], "scale must have 2 to 12 whole numbers, got low 1 and"),
        (["serve", "--completions", "x", "--fields", "no.yaml"], "fields no.yaml: cannot be read"),
        (["results"], "no such store"),
        (["export"], "required: --out"),
        (["export", "--out", "x"], "no such store"),
    ],
)
def test_mistakes(told: Callable[..., str], words: list[str], line: str) -> None:
    assert line in told(*words)
    assert not Path("runs").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- {name: a}\n- {name: a}", "'a' stands twice"),
        ("- {name: a, value: [x, y]}", "field 1: expected name, question, values and required, got"),
        ("- {name: rating}", "field 1: name and question must be texts, and the name not 'rating'"),
        ("- {name: a, low: 1}", "field 1: expected a scale as name, low and high (whole numbers)"),
        ("- {name: a, low: 1, high: 5, values: [x, y]}", "field 1: expected a scale as name, low and high"),
        ("- {name: a, low: 1, high: 5, question: 3}", "field 1: name, question and labels must be texts"),
        ("- {name: a, low: 5, high: 1}", "field 1: scale must have 2 to 12 whole numbers, got low 5 and high 1"),
        ("- {name: a, low: 1, high: 5, required: 1}", "field 1: required must be true or false, got '1'"),
        ("- {name: a, values: [yes, no]}", "field 1: values must be texts (in YAML quote yes and no)"),
        ("- {name: a, values: [x]}", "field 1: values must be 2 to 12 different texts"),
        ("- {name: a, required: maybe}", "field 1: required must be true or false, got 'maybe'"),
        ("name: a", "expected a list of fields"),
    ],
)
def test_fields_amiss(told: Callable[..., str], text: str, line: str) -> None:
    Path("f.yaml").write_text(text)
    assert line in told("serve", "--completions", "x", "--fields", "f.yaml")


def test_ratings_are_shown_with_their_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    fields = form_of(RatingScale(high=5), str(ROOT / "configs" / "annotation" / "instruct_gpt.yaml"))
    assert [field.name for field in fields[:4]] == ["rating", "fails_instruction", "inappropriate", "hallucination"]
    store = AnnotationStore(fill(Path("a.sqlite"), pairs(4), ("ann", "bob"), fields=fields))
    for n, item in enumerate(store.items()):
        for rater in store.raters()[: 1 if n == 3 else 2]:
            left = store.show(rater.id, item.id).order.index(0)
            said = {"rating": [1 + n, 2 + n] if left == 0 else [2 + n, 1 + n], "hallucination": ["yes", "no"]}
            key = f"{rater.name}-{n}".ljust(16, "k")
            store.submit(rater.id, item.id, Choice(1 - left, left), key=key, replaces=None, remarks=said)
    assert main(["annotate", "results", "--store", "a.sqlite", "--out", "r.json"]) == 0
    shown = capsys.readouterr().out
    assert "Krippendorff's alpha of all raters" in shown
    assert "hallucination: yes" in shown
    found = json.loads(Path("r.json").read_text())
    alphas = {(a["question"], a["level"]): (a["items"], a["alpha"][0]) for a in found["alpha"]}
    assert alphas["rating", "ordinal"] == alphas["rating", "interval"] == (6, 1.0)  # the last item by one rater only
    ratings = {s["name"]: s["mean"][0] for s in found["remarks"] if s["field"] == "rating"}
    assert list(ratings.values()) == [2.5, 3.5]


def test_a_port_in_use(told: Callable[..., str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = told("serve", "--store", str(fill(tmp_path / "a", pairs(1))), "--listen.port", port)
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in line


def test_without_the_extra(
    told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert "the page needs uvicorn: pip install 'align-lm[annotation]'" in told("serve")
    assert "no judgments yet" in told("results", "--store", str(fill(tmp_path / "a", pairs(1))))  # needs no server


def test_addresses() -> None:
    local = ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"]
    assert Listen().origins(9) == local
    assert Listen(host="::1").origins(9)[0] == "http://[::1]:9"
    assert Listen(port=80).origins(80)[0] == "http://127.0.0.1"
    behind = Listen(host="0.0.0.0", address="https://Rate.example/")
    assert behind.origins(9) == ["https://rate.example", *local]
    assert Listen(address="http://localhost:9000").origins(9)[0] == "http://localhost:9000"
    with pytest.raises(ConfigError):
        Listen(address="https://user@rate.example")


def start(*words: str) -> tuple[subprocess.Popen[str], list[str]]:
    command = [sys.executable, "-m", "align", "annotate", "serve", "--listen.port", "0", *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  a job in the background ignores it
    )
    lines: list[str] = []
    while not lines or not lines[-1].startswith("judgments go to"):
        lines.append(process.stdout.readline())  # type: ignore[union-attr]
        assert lines[-1], process.communicate()[1]
    return process, lines


def entered(line: str) -> Client:
    address, _, token = line.rsplit(maxsplit=1)[-1].partition("#")
    return Client(int(address.rstrip("/").rpartition(":")[2]), token)


def test_served_stopped_and_served_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = completions(tmp_path / "a", "one"), completions(tmp_path / "b", "two")
    words = ("--completions.m1", a, "--completions.m2", b, "--raters", "[ann,bob]", "--store", "s.sqlite")
    process, lines = start(*words)
    assert lines[0] == "m1: 3 prompts of 3 rows\n"
    assert lines[2].startswith("ann (0 of 3 judged): http://127.0.0.1:")
    client = entered(lines[2])
    item = client.get(f"item/{client.state['items'][0]['id']}")
    first = next(n for n, text in enumerate(item["responses"]) if text.startswith("one"))
    assert client.judge(item["id"], first, key="k" * 20)[0] == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read() == ""  # type: ignore[union-attr]

    process, lines = start("--store", "s.sqlite", "--new_links", "true")
    assert lines[0].startswith("ann (1 of 3 judged): ")
    assert entered(lines[0]).path == client.path
    with pytest.raises(AssertionError, match="not valid"):
        Client(client.port and entered(lines[0]).port, "f" * 64)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (143, -signal.SIGTERM)

    assert main(["annotate", "results", "--store", "s.sqlite", "--out", "r/results.json"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 3" in shown
    (found,) = json.loads(Path("r/results.json").read_text())["comparisons"]
    assert (found["a"], found["b"], found["win"][0], found["items"]) == ("m1", "m2", 1.0, 1)


def test_hostile_names_do_no_harm_to_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]\x1b[2J=cmd()"
    items = [AnnotationItem.new([{"role": "user", "content": "p"}], ["a", "b"], [name, "other"])]
    store = AnnotationStore(fill(tmp_path / "a", items, ("[bold]x",)))
    rater, item = store.raters()[0].id, store.items()[0].id
    store.show(rater, item)
    store.submit(rater, item, Choice(0, 1), key="k" * 16, replaces=None)
    assert main(["annotate", "results", "--store", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr().out
    assert "[red]" in shown
    assert "[bold]x" in shown
    assert "\x1b[2J" not in shown
