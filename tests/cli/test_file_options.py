"""Every option of the verbs that make files of files: soups, models, vectors, the world's data, judgments, exports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from align.annotation.annotation_store import AnnotationStore
from align.annotation.form import RatingScale
from align.cli import annotate_export, annotate_results, annotate_serve
from align.cli.data_world import data_world
from align.cli.export import export
from align.cli.init_model import init_model
from align.cli.main import main
from align.cli.merge import merge
from align.cli.report import report
from align.cli.steer_export import steer_export
from tests.annotation.service import fill, pairs
from tests.cli.observing import Observed, Verb, check, options_of
from tests.cli.things import judge_all, lines
from tests.test_configs import CPU, METHOD

TWO = ("--models", "[THINGS/model,THINGS/other]")
SOUP = Verb(
    merge,
    "merge",
    {"full": (*TWO, "--weights", "[0.25,0.75]", "--out", "soup")},
    {
        "models": ("--models", "[THINGS/other,THINGS/model]"),
        "weights": ("--weights", "[0.5,0.5]"),
        "out": ("--out", "broth"),
        "kind": ("--kind", "TaskArithmetic", "--base", "THINGS/model", "--weights", "[1,1]"),
        "base": ("--kind", "TaskArithmetic", "--weights", "[1,1]", "--base", "THINGS/other"),
    },
)
INIT = Verb(
    init_model,
    "init model",
    {"bytes": ("--tokenizer", "bytes", "--out", "m", "--hidden_size", "16", "--num_hidden_layers", "1")},
    {
        "tokenizer": ("--tokenizer", "THINGS/model"),
        "out": ("--out", "n"),
        "hidden_size": ("--hidden_size", "32"),
        "num_hidden_layers": ("--num_hidden_layers", "2"),
        "num_attention_heads": ("--num_attention_heads", "2"),
        "max_positions": ("--max_positions", "64"),
        "seed": ("--seed", "1"),
    },
)
VECTORS = Verb(
    steer_export,
    "steer export",
    {"noted": ("--steer", "THINGS/deep.safetensors", "--out", "v.gguf")},
    {
        "steer": ("--steer", "THINGS/deep2.safetensors"),
        "out": ("--out", "w.gguf"),
        "model": ("--model", "THINGS/gpt2"),
        "vector": ("--vector", "pca"),
        "layers": ("--layers", "[2]"),
    },
)
WORLD = Verb(
    data_world,
    "data world",
    {"small": ("--out", "w", "--preferences.size", "40", "--preferences.held_out_size", "8")},
    {
        "out": ("--out", "x"),
        "preferences.size": ("--preferences.size", "41"),
        "preferences.held_out_size": ("--preferences.held_out_size", "9"),
        "preferences.responses": ("--preferences.responses", "3"),
        "preferences.temperature": ("--preferences.temperature", "5"),
        "preferences.label_noise": ("--preferences.label_noise", "0.4"),
        "preferences.missing": ("--preferences.missing", "0.5"),
        "preferences.ratings": ("--preferences.ratings", "helpsteer"),
        "preferences.users": ("--preferences.users", "{x: {verbosity: -1}}"),
        "preferences.seed": ("--preferences.seed", "1"),
        "preferences.flattery": ("--world.version", "2", "--preferences.flattery", "3"),
        "world.version": ("--world.version", "2"),
        "world.entities": ("--world.entities", "9"),
        "world.facts": ("--world.facts", "5"),
        "world.harmful_share": ("--world.harmful_share", "0.9"),
        "world.held_out_entities": ("--world.held_out_entities", "3"),
        "world.fact_accuracy": ("--world.fact_accuracy", "0.1"),
        "world.seed": ("--world.seed", "1"),
    },
    refused={("*", "preferences.ratings"): "have ratings of their own"},
)
MADE = ("--completions.a", "THINGS/ca.jsonl", "--completions.b", "THINGS/cb.jsonl", "--store", "new.sqlite")
SERVE = Verb(
    annotate_serve.serve,
    "annotate serve",
    {"new": MADE, "old": ("--store", "THINGS/judged.sqlite", "--raters", "[ann]")},
    {
        "completions": ("--completions.c", "THINGS/ca.jsonl"),
        "store": ("--store", "other.sqlite"),
        "raters": ("--raters", "[cat]"),
        "task": ("--task", "best_worst", "--completions.c", "THINGS/ca.jsonl"),
        "question": ("--question", "Which?"),
        "guidelines": ("--guidelines", "THINGS/template.jinja"),
        "limit": ("--limit", "2"),
        "seed": ("--seed", "5"),
        "listen.host": ("--listen.host", "localhost"),
        "listen.port": ("--listen.port", "1"),
        "listen.address": ("--listen.address", "https://rate.example"),
        "new_links": ("--new_links", "true"),
        "scale.low": ("--scale.low", "0"),
        "scale.high": ("--scale.high", "5"),
        "scale.low_label": ("--scale.low_label", "bad"),
        "scale.high_label": ("--scale.high_label", "good"),
        "scale.question": ("--scale.question", "How good?"),
        "scale.required": ("--scale.required", "false"),
        "fields": ("--fields", "THINGS/fields.yaml"),
        "labeller": ("--labeller", "THINGS/fields.yaml"),
    },
    otherwise={("old", "task"): ("--task", "best_worst")},
    refused={
        **{("old", name): "task, question and limit belong" for name in ("task", "question", "limit", "seed")},
        **{
            ("old", name): "what is asked of responses and raters belongs to a new store"
            for name in ("scale.low", "fields", "labeller")
        },
    },
    only={
        "old": [
            *("task", "question", "limit", "seed", "raters", "new_links", "guidelines", "listen.port"),
            *("scale.low", "fields", "labeller"),
        ]
    },
)
RESULTS = Verb(
    annotate_results.results,
    "annotate results",
    {"judged": ("--store", "THINGS/judged.sqlite")},
    {"store": ("--store", "THINGS/judged2.sqlite"), "out": ("--out", "r.json")},
)
JUDGED = ("--store", "THINGS/judged.sqlite", "--out", "e.txt")
TAKEN = Verb(
    annotate_export.export,
    "annotate export",
    {"pairs": JUDGED, "lists": (*JUDGED, "--rows", "lists"), "responses": (*JUDGED, "--rows", "responses")},
    {
        "out": ("--out", "f.txt"),
        "store": ("--store", "THINGS/judged2.sqlite"),
        "rows": ("--rows", "lists"),
        "ties": ("--ties", "both"),
        "votes": ("--votes", "each"),
        "scores": ("--scores", "ratings"),
    },
    {("lists", "rows"): ("--rows", "pairs")},
    {
        ("lists", "ties"): "ties both is for --rows pairs",
        ("responses", "ties"): "--rows responses has no order",
        ("responses", "scores"): "--rows responses has no order",
    },
)
PUSHED = ("--push_to_hub", "me/model", "--dry_run", "true")
EXPORT = Verb(
    export,
    "export",
    {"adapter": ("--run", "THINGS/run", "--out", "m"), "pushed": ("--run", "THINGS/run", "--out", "m", *PUSHED)},
    {
        "run": ("--run", "THINGS/run2"),
        "out": ("--out", "n"),
        "checkpoint": ("--checkpoint", "first.ckpt"),
        "merge": ("--merge", "true"),
        "push_to_hub": ("--push_to_hub", "me/other", "--dry_run", "true"),
        "public": ("--public", "true"),
        "revision": ("--revision", "later"),
        "dry_run": (*PUSHED, "--revision", "later"),
    },
    refused={("adapter", name): "belongs to --push_to_hub" for name in ("public", "revision")},
    only={"pushed": ["public", "revision"]},
)
REPORT = Verb(
    report,
    "report",
    {"runs": ("THINGS/run", "THINGS/run2", "--out", "r.html")},
    {
        "runs": (),
        "out": ("--out", "s.html"),
        "title": ("--title", "Mine"),
        "examples": ("--examples", "0"),
        "lm_eval": ("--lm_eval", "[THINGS/lm_eval.json]"),
    },
    only={"runs": ["out", "title", "examples", "lm_eval"]},
)
VERBS = {v.name: v for v in (SOUP, INIT, VECTORS, WORLD, SERVE, RESULTS, TAKEN, EXPORT, REPORT)}


@pytest.fixture(scope="module", autouse=True)
def files(things: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs with two checkpoints, judgments, completions; the page is not served but described."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    for seed, name in enumerate(("run", "run2")):
        words = ["fit", "-c", METHOD, "-c", CPU, "--data", "PreferenceFileDataModule", "--seed_everything", str(seed)]
        words += ["--data.path", str(things / "pairs.jsonl"), "--model.backbone.path", str(things / "model")]
        words += ["--model.backbone.lora.r", "2", "--model.optimizer.learning_rate", "0.1"]
        assert (
            main([*words, "--data.splits.val_fraction", "0.4", "--trainer.default_root_dir", str(things / name)]) == 0
        )
        folder = things / name / "checkpoints"
        others = [path for path in folder.glob("*.ckpt") if path.name != "last.ckpt"]
        shutil.copy(others[0] if others else folder / "last.ckpt", folder / "first.ckpt")
    for name in ("ca", "cb"):
        lines(things / f"{name}.jsonl", [{"prompt": f"p{n}", "completion": f"{name} {n}"} for n in range(5)])
    for number, name in enumerate(("judged", "judged2")):
        judge_all(fill(things / f"{name}.sqlite", pairs(4), ("ann", "bob"), fields=[RatingScale().field()]), number)
    measured = {"acc,none": 0.5, "acc_stderr,none": 0.1}
    (things / "lm_eval.json").write_text(json.dumps({"results": {"t": measured}, "model_name": "m"}))
    (things / "fields.yaml").write_text("- {name: harm, question: Harmful?}\n")
    monkeypatch.setattr("align.annotation.server_process.serve", _described)
    yield
    monkeypatch.undo()


def _described(store: AnnotationStore, listen: Any, guidelines: str) -> None:
    items = [str(item[1:3]) for item in store.items()]
    secret = store.setting("secret") == SECRETS.setdefault(store.path.name, store.setting("secret"))
    print(
        listen, guidelines, [r.name for r in store.raters()], store.setting("question"), items, secret, store.fields()
    )


SECRETS: dict[str, str] = {}


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_tried(name: str) -> None:
    assert options_of(VERBS[name].function) == set(VERBS[name].options)


@pytest.mark.parametrize(("name", "mode", "option"), [(v.name, *case) for v in VERBS.values() for case in v.cases()])
def test_option(name: str, mode: str, option: str, observed: Observed) -> None:
    check(VERBS[name], mode, option, observed)
