"""A model folder knows how it is asked: by default what an option would ask, refused where it cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.callbacks.evaluation import RewardEvaluation
from align.callbacks.hf_export import HFExport
from align.callbacks.samples import SampleTable
from align.cli.main import main
from align.cli.model_options import gathered
from align.data.conditioning import ScoreConditioned
from align.data.hindsight import Hindsight
from align.data.splits import Splits
from align.errors import ConfigError, ModelError
from align.evaluation.completions import EvaluationPrompt
from align.evaluation.policy import Policy
from align.judges.local_model import LocalModel
from align.models.asked import PLAIN, asking_of
from align.models.backbone import Backbone
from align.models.condition_file import Conditions, Form, read_asking, write_condition_file
from align.modules.hir import HIRModule
from align.modules.sft import SFTModule
from align.records import Example, Instructions, Message, WeightedRating
from align.records.asking import Ask, AskedModel, Scores
from align.sampling.generation import Generation
from tests.cli.things import TEMPLATE, lines
from tests.modules.fitting import fit, pairs_data
from tests.tiny import save_reward_model, save_tiny

HI = (Message("user", "Hi"),)
RATED = WeightedRating(system="")
FORMS: dict[str, tuple[Form, tuple[str, ...], str]] = {
    "hir": (Instructions("Be good.", "Be bad."), ("--under", "positive"), "Be good.\n\nHi"),
    "coh": (Instructions("Good:", "Bad:", "end"), ("--under", "positive"), "Hi\n\nGood:"),
    "dpa": (
        Conditions(RATED, "direction", []),
        ("--angle", "-22.5"),  # cos 22.5 = .924, sin = .383
        "Your response should maximize weighted rating = helpfulness*92 + verbosity*-38",
    ),
    "steerlm": (
        Conditions(RATED, "ratings", [(20.0, 80.0), (90.0, 30.0), (70.0, 90.0)]),
        ("--ratings", "90,30"),
        "Your response should have the ratings helpfulness:90,verbosity:30",
    ),
    "scores": (Scores("{prompt}\n\n[{scores}]", 1, ("reward",), (9.25,)), ("--ratings", "9.25"), "Hi\n\n[reward: 9.2]"),
}
FEW = ("--generation.max_new_tokens", "6", "--generation.temperature", "0")
SAMPLED = ("--sampling.generation.max_new_tokens", "6", "--prompts", "p.jsonl", "--out", "out")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    lines(tmp_path / "p.jsonl", [{"prompt": f"Tell me {n}", "completion": "c"} for n in range(3)])
    found = {}
    for name, (form, _, _) in FORMS.items():
        found[name] = str(save_tiny(tmp_path / name, template=TEMPLATE, initializer_range=0.7))
        write_condition_file(form, tmp_path / name)
    found["base"] = str(save_tiny(tmp_path / "base", template=TEMPLATE, initializer_range=0.7))
    return found


def evaluated(*words: str) -> dict[str, list[str]]:
    """Return the completions of `align evaluate` by model."""
    assert main(["evaluate", *words, *SAMPLED]) == 0
    files = json.loads(Path("out/evaluation.json").read_text())["completions"]
    rows = {n: Path("out", f["0.0"]).read_text().splitlines() for n, f in files.items()}
    return {name: [json.loads(line)["completion"] for line in found] for name, found in rows.items()}


def generated(folder: str, *words: str) -> list[str]:
    words = ("--model.path", folder, "--prompts", "p.jsonl", *words, *FEW, "--out", "g.jsonl")
    assert main(["generate", *words]) == 0
    return [json.loads(line)["completion"].strip() for line in Path("g.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FORMS)
def test_the_default_is_the_explicit_option(name: str, folders: dict[str, str]) -> None:
    form, option, text = FORMS[name]
    assert read_asking(folders[name]) == (form, Ask())
    assert text in asking_of(folders[name]).apply(HI)[0].content
    found = evaluated("--models.usual", folders[name], "--models.bare.path", folders[name], "--models.bare.plain")
    assert found["usual"] == generated(folders[name]) == generated(folders[name], *option)
    assert found["bare"] == generated(folders[name], "--plain") == generated(folders["base"])
    assert found["usual"] != found["bare"]
    asked = json.loads(Path("out/evaluation.json").read_text())["asked"]
    assert asked["bare"] == {"path": folders[name], "told": "plain", "text": ""}
    assert asked["usual"]["told"] == asking_of(folders[name]).told != ""


def test_two_needs_in_one_table(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--models", json.dumps([folders[n] for n in ("hir", "dpa", "base")]), "--models.dpa.direction", "1,0"]
    found = evaluated(*words)
    shown = capsys.readouterr()
    assert found[folders["hir"]] == generated(folders["hir"], "--under", "positive")
    assert found[folders["dpa"]] == generated(folders["dpa"], "--direction", "1,0") != generated(folders["dpa"])
    assert shown.err.count("under the positive instruction, asked for: Be good.") == 1
    assert "hir (under the positive" in shown.out
    asked = json.loads(Path("out/evaluation.json").read_text())["asked"]
    assert [one["told"] for one in asked.values()] == [
        "under the positive instruction",
        "direction 1.00 helpfulness +0.00 verbosity (angle 0.0 degrees)",
        "",
    ]


def test_another_asking_never_reuses_answers(folders: dict[str, str]) -> None:
    files = []
    for words in (
        (),
        ("--models.m.under", "negative"),
        ("--models.m.system", "Be brief."),
        ("--models.m.plain", "true"),
    ):
        evaluated("--models.m.path", folders["hir"], *words)
        files.append(json.loads(Path("out/evaluation.json").read_text())["completions"]["m"]["0.0"])
    assert len(set(files)) == 4


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("hir", ("direction", "1,0"), "trained on prompts that ask for instruction: give --under"),
        ("dpa", ("ratings", "80,20"), "trained on prompts that ask for direction: give --direction or angle"),
        ("steerlm", ("angle", "-30"), "trained on prompts that ask for ratings: give --ratings"),
        ("steerlm", ("ratings", "80"), "expected points for helpfulness and verbosity, as in 80,80"),
        (
            "steerlm",
            ("ratings", "300,20"),
            "ratings 300,20: expected points from 0 to 100 for helpfulness and verbosity",
        ),
        ("dpa", ("direction", "0,0"), "not both 0"),
        ("base", ("direction", "1,0"), "no conditions.json"),
        ("base", ("steer", "none.safetensors"), "no such file"),
        ("base", ("dirction", "1,0"), "a model has no setting 'dirction'"),
    ],
)
def test_what_a_model_cannot_be_asked_is_named(
    name: str, words: tuple[str, str], told: str, folders: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["evaluate", *SAMPLED], ["front", "compare", "--attributes", "[a,b]"]):
        given = [*verb, "--models.m.path", folders[name], f"--models.m.{words[0]}", words[1]]
        assert main(given) == 2
        error = capsys.readouterr().err
        assert told in error
        assert "Traceback" not in error


def test_words_of_named_models_are_one_value() -> None:
    words = [
        "--models.a",
        "A",
        "--out",
        "o",
        "--models.b.path=B",
        "--models.b.direction",
        "0.8,-0.6",
        "--models.b.angle",
        "-3",
    ]
    rest = gathered(words, AskedModel)
    assert rest[:3] == ["--out", "o", "--models"]
    assert json.loads(rest[3]) == {"a": {"path": "A"}, "b": {"path": "B", "direction": "0.8,-0.6", "angle": -3}}
    assert gathered(["--models", "[A,B]"], AskedModel) == ["--models", "[A,B]"]
    with pytest.raises(ConfigError, match="no folder of that name"):
        gathered(["--models", "[A,B]", "--models.C.angle", "1"], AskedModel)


def test_a_damaged_file_is_named(folders: dict[str, str]) -> None:
    path = Path(folders["hir"], "conditions.json")
    for content in ('{"asks": "wishes"}', '{"asks": "instruction"}', '{"asks": "nothing", "usual": {"odd": 1}}'):
        path.write_text(content)
        with pytest.raises(ModelError, match=r"conditions\.json"):
            asking_of(folders["hir"])


def test_a_judge_is_asked_as_its_folder_says(folders: dict[str, str]) -> None:
    usual, bare = (LocalModel(Backbone(folders["hir"]), ask=ask) for ask in (Ask(), Ask(plain=True)))
    assert "asked" not in LocalModel(Backbone(folders["base"])).settings()
    assert usual.settings() != bare.settings()
    assert usual.asking.apply(HI)[0].content == "Be good.\n\nHi"


def run(module: Any, root: Path, pairs: Path, *callbacks: Any, **options: Any) -> Path:
    data = pairs_data(pairs, splits=Splits(0.2), **options)
    fit(module, data, callbacks=[*callbacks, HFExport()], default_root_dir=root)
    return root / "model"


def test_methods_and_views_write_what_they_need(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    base = Backbone(str(model_folder))
    texts = Instructions("be good", "be very bad")
    hir = run(HIRModule(base, instructions=texts), tmp_path / "a", pairs_file)
    assert read_asking(str(hir))[0] == texts
    view = Hindsight()
    coh = run(SFTModule(base, view="hindsight"), tmp_path / "b", pairs_file)
    assert read_asking(str(coh))[0] == Instructions(view.good, view.bad, "end")
    row = Example("x", HI, ("a", "b"), ranking=((0,), (1,)))
    assert asking_of(str(coh)).apply(HI) == next(iter(view.groups(row))).messages
    sft = run(SFTModule(base), tmp_path / "c", pairs_file)
    assert not (sft / "conditions.json").exists()
    assert asking_of(str(sft)) == PLAIN


def test_scores_in_the_prompt_ask_for_the_top_decile(model_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"p {n}", "completions": ["a"], "scores": [float(n)]} for n in range(40)]
    data = lines(tmp_path / "s.jsonl", rows)
    view = ScoreConditioned()
    folder = run(SFTModule(Backbone(str(model_folder))), tmp_path / "d", data, view=view)
    form, _ = read_asking(str(folder))
    assert isinstance(form, Scores)
    assert 33 <= form.high[0] <= 37  # of 0..39, less a fifth held out
    assert f"[{form.names[0]}: {form.high[0]:.1f}]" in asking_of(str(folder)).apply(HI)[-1].content


def test_callbacks_ask_as_the_method_does(
    model_folder: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Message, ...]] = []
    original = Policy.prompt_ids
    monkeypatch.setattr(
        Policy, "prompt_ids", lambda self, p, n: asked.extend(x.messages for x in self.asked(p)) or original(self, p, n)
    )
    short = Generation(max_new_tokens=4, temperature=0.0)
    reward = str(save_reward_model(tmp_path / "rm"))
    texts = Instructions("be good", "be very bad")
    callbacks = (RewardEvaluation({"rm": reward}, 3, short), SampleTable(2, short))
    module = HIRModule(Backbone(str(model_folder)), instructions=texts)
    run(module, tmp_path / "run", pairs_file, *callbacks)
    assert asked
    assert all(messages[0].content.startswith("be good\n\n") for messages in asked)
    rows = [json.loads(line) for line in (tmp_path / "run/rewards.jsonl").read_text().splitlines()]
    assert {row["asked"] for row in rows} == {"under the positive instruction"}


def test_an_export_keeps_a_system_text_and_vectors(model_folder: Path, tmp_path: Path) -> None:
    import torch

    from align.activations.artefact import VectorNote, save_vectors

    save_vectors(tmp_path / "v.safetensors", {"mean": torch.ones(1, 32)}, VectorNote((1,), "a - b"))
    ask = Ask(system="Be brief.", steer=str(tmp_path / "v.safetensors"), coefficient=2.0)
    write_condition_file(None, model_folder, ask)
    (tmp_path / "v.safetensors").unlink()
    found = asking_of(str(model_folder))
    assert found.apply(HI) == (Message("system", "Be brief."), *HI)
    assert found.steer is not None
    assert found.told == "system text; steered 2 x mean of vectors.safetensors"
    assert asking_of(str(model_folder), Ask(plain=True)).steer is None


def test_how_a_prompt_was_made_shorter_is_told(folders: dict[str, str]) -> None:
    long = [EvaluationPrompt((Message("user", "x" * 900),)), EvaluationPrompt(HI)]
    told = [
        policy.shortened(policy.prompt_ids(long, 4))
        for policy in (Policy.load(Backbone(folders["base"])), Policy.load(Backbone(folders["hir"])))
    ]
    assert told[0] == "1 of 2 prompts are longer than the context: cut from the left"
    assert told[1].endswith("start of a text, under all of what is asked (under the positive instruction)")
    assert Policy.load(Backbone(folders["base"])).shortened([([1], False)]) == ""


def test_a_file_of_answers_that_is_not_there(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Told before the first model is drawn from."""
    assert main(["evaluate", "--models", f"[{folders['base']},none.parquet]", *SAMPLED]) == 2
    assert "models none.parquet: none.parquet: no such file" in capsys.readouterr().err
    assert not Path("out").exists()
