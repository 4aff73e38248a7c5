"""A class path means the class: over every class that a config may name, nothing of another one stays."""

from __future__ import annotations

import dataclasses
import inspect
import json
from argparse import ArgumentError
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser, Namespace

from align.cli.class_paths import mean_classes
from align.cli.start import prepare
from align.judges.chat_backend import ChatBackend
from align.judges.endpoint import Endpoint
from align.judges.language_scorer import LanguageModelScorer
from align.judges.local_model import LocalModel
from align.judges.win_rates import ScorerJudge, WinRates
from align.rewards.function_rewards import FunctionRewards
from align.rewards.scorers import Scorer
from align.sampling.colocated import ColocatedVLLM
from align.sampling.engine_kind import EngineKind
from align.sampling.server_pool import ServerPool
from tests.cli.pluggable import changed, concrete, pluggable_types, required
from tests.test_configs import METHOD, ROOT, ParseOnly

PLAIN = (bool, int, float, str, type(None))
KINDS = [kind for kind in pluggable_types() if len(concrete(kind)) > 1]
CASES = [(kind, cls) for kind in KINDS for cls in concrete(kind)]


def path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def parameters(cls: type) -> dict[str, Any]:
    """Return the defaults of what a class takes, those of its bases' `**options` left out."""
    found, needed = inspect.signature(cls).parameters.values(), required(cls)
    return {p.name: p.default for p in found if p.default is not p.empty and p.name not in needed}


@cache
def parser(kind: type) -> ArgumentParser:
    prepare([])
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("-c", "--config", action="config")
    made.add_argument("--x", type=kind)
    return made


def bare(cls: type) -> dict[str, Any]:
    return {"class_path": path_of(cls), **({"init_args": required(cls)} if required(cls) else {})}


def others(kind: type, cls: type) -> list[dict[str, Any]]:
    """Return other classes of the type with values for all that `cls` takes and they take too."""
    left, found = {n: changed(d) for n, d in parameters(cls).items()}, []
    for other in concrete(kind):
        shared = {n: v for n, v in left.items() if n in parameters(other) and v is not None}
        if other is not cls and shared:
            found.append({"class_path": path_of(other), "init_args": {**required(other), **shared}})
            left = {n: v for n, v in left.items() if n not in shared}
    return found or [bare(other) for other in concrete(kind) if other is not cls][:1]


def check(cls: type, found: Namespace) -> None:
    """The values are the class's own defaults, and so is what is built of them."""
    assert found.class_path.rsplit(".", 1)[1] == cls.__name__
    values = found.get("init_args", Namespace())
    plain = {name: default for name, default in parameters(cls).items() if type(default) in PLAIN}
    assert {name: values[name] for name in plain} == plain
    if not required(cls) and dataclasses.is_dataclass(cls):
        kind = next(k for k in KINDS if issubclass(cls, k))
        assert fields_of(parser(kind).instantiate(Namespace(x=found)).x) == fields_of(cls())


def fields_of(instance: Any) -> str:
    """Return all values of a dataclass; lists and tuples are one, since YAML has lists only."""
    return json.dumps(dataclasses.asdict(instance), default=lambda value: type(value).__name__)


@pytest.mark.parametrize(("kind", "cls"), CASES, ids=lambda value: value.__name__)
def test_a_bare_class_path_equals_the_class(kind: type, cls: type, tmp_path: Path) -> None:
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    after.write_text(yaml.safe_dump({"x": bare(cls)}))
    flag = ["--x", yaml.safe_dump(bare(cls), default_flow_style=True).strip()]
    for other in others(kind, cls):
        before.write_text(yaml.safe_dump({"x": other}))
        for words in (["-c", str(after)], flag):
            check(cls, parser(kind).parse_args(["-c", str(before), *words]).x)
        given = parser(kind).parse_object({"x": other})
        check(cls, parser(kind).parse_object({"x": bare(cls)}, namespace=given).x)
        default = ArgumentParser(exit_on_error=False)
        default.add_argument("--x", type=kind, default=other)
        check(cls, default.parse_args(flag).x)


@pytest.mark.parametrize(("kind", "cls"), CASES, ids=lambda value: value.__name__)
def test_short_names_are_those_of_the_type(kind: type, cls: type) -> None:
    given = {"class_path": cls.__name__, **({"init_args": required(cls)} if required(cls) else {})}
    assert parser(kind).parse_object({"x": given}).x.class_path.rsplit(".", 1)[1] == cls.__name__


def fit(*words: str) -> Namespace:
    data = ["--data", "HHRLHFDataModule", "--data.path", "x"]
    line = ["fit", *data, *words]
    prepare(line)
    return ParseOnly(line).config.fit


def engine_of(found: Namespace) -> Any:
    (resampling,) = [one for one in found.trainer.callbacks if one.class_path.endswith(".IterativeResampling")]
    return resampling.init_args.engine


MODEL = ["--model", "DPOModule", "--model.backbone.path", "y"]


class TestFit:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("SimPO", {"beta": 2.0, "gamma": 1.0, "label_smoothing": 0.0}),
            ("SPPOHard", {"beta": 0.001}),
            ("RobustDPO", {"beta": 0.1, "label_smoothing": 0.1}),
            ("DRO", {"beta": 1.0}),
            ("PMPO", {"alpha": 0.5, "beta": 0.5}),
        ],
    )
    def test_the_module_s_default_objective_leaves_nothing(self, name: str, values: dict[str, float]) -> None:
        assert fit(*MODEL, "--model.objective", name).model.init_args.objective.init_args.as_dict() == values

    def test_a_class_named_later_drops_a_file_s_values(self) -> None:
        found = fit("-c", METHOD, *MODEL, "--model.objective.beta", "0.7", "--model.objective", "SimPO")
        assert found.model.init_args.objective.init_args.beta == 2.0

    def test_the_same_class_keeps_what_it_had(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
        cpo = {"class_path": "align.objectives.reference_free.CPO", "init_args": {"beta": 0.2, "nll_weight": 3.0}}
        first.write_text(yaml.safe_dump({"model": {"init_args": {"objective": cpo}}}))
        again = {**cpo, "init_args": {"label_smoothing": 0.3}}
        second.write_text(yaml.safe_dump({"model": {"init_args": {"objective": again}}}))
        found = fit(*MODEL, "-c", str(first), "-c", str(second), "--model.objective.beta", "0.4")
        values = found.model.init_args.objective.init_args.as_dict()
        assert values == {"beta": 0.4, "nll_weight": 3.0, "label_smoothing": 0.3}

    def test_a_class_and_a_record_of_one_option_leave_nothing_of_each_other(self) -> None:
        """`engine` is a record of servers, as the fragment has one, or a class."""
        option, servers = "--trainer.callbacks.engine", str(ROOT / "configs" / "callbacks" / "online_servers.yaml")
        given = ["-c", METHOD, *MODEL, "-c", servers]
        vllm = engine_of(fit(*given, option, "ColocatedVLLM", f"{option}.sleep", "false"))
        assert vllm.class_path == "align.sampling.colocated.ColocatedVLLM"
        assert vllm.init_args.as_dict() == {**asdict(ColocatedVLLM()), "sleep": False}
        record = engine_of(fit(*given, option, "ContinuousBatching", option, '{"urls": ["http://b:1/v1"]}'))
        assert record.as_dict() == asdict(ServerPool(["http://b:1/v1"]))
        with pytest.raises(ArgumentError, match="Option 'urls' is not accepted"):
            fit(*given, option, "ContinuousBatching", f"{option}.urls", "[http://b:1/v1]")

    def test_another_module_drops_all_of_the_one_before(self) -> None:
        found = fit("-c", METHOD, *MODEL, "--model.optimizer.weight_decay", "0.5", "--model", "PROModule", *MODEL[2:])
        assert found.model.init_args.optimizer.weight_decay == 0.0
        assert found.model.init_args.objective.class_path == "align.objectives.ranking.PRO"

    def test_a_list_replaces_the_list_before(self, tmp_path: Path) -> None:
        files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
        for file, init in zip(files, ({"init_args": {"beta": 0.7}}, {}), strict=True):
            terms = [{"objective": {"class_path": "DPO", **init}, "weight": 3.0 if init else 1.0}]
            objective = {"class_path": "PairSum", "init_args": {"terms": terms}}
            file.write_text(yaml.safe_dump({"model": {"init_args": {"objective": objective}}}))
        found = fit(*MODEL, "-c", str(files[0]), "-c", str(files[1])).model.init_args.objective.init_args.terms
        assert [(t.weight, t.objective.init_args.beta) for t in found] == [(1.0, 0.1)]

    def test_a_setting_of_an_appended_callback_is_its_own(self) -> None:
        words = ["--trainer.callbacks+", "StopAt", "--trainer.callbacks.max_steps", "7"]
        found = fit(*MODEL, *words).trainer.callbacks
        assert found[-1].init_args.max_steps == 7
        assert found[0].init_args.every_n_steps == 200

    def test_help_lists_every_objective(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            fit("--model.help", "DPOModule")
        text = capsys.readouterr().out
        kinds = [kind for kind in KINDS if kind.__name__ in ("PairObjective", "PointObjective")]
        assert len(kinds) == 2
        for cls in (cls for kind in kinds for cls in concrete(kind)):
            assert path_of(cls) in "".join(text.split()), cls

    @pytest.mark.parametrize(
        ("extra", "line"),
        [
            (["--model.objective", "SimPOO"], "--model.objective: no class named 'SimPOO', did you mean 'SimPO'?"),
            (["--model.objective", "simpo"], "did you mean 'SimPO'?"),
            (["--model.objective", "PRO"], "(PROModule takes it), did you mean 'CPO' or 'DPO' or 'DRO'?"),
            (["--model.objective", "align.objectives.pairwise.SimPO"], "is now align.objectives.reference_free.SimPO"),
            (["--model.reference", "align.models.reference.FrozenCopy"], "is now align.models.references.FrozenCopy"),
            (
                ["--model.objective", "align.objectives.ranking.PRO"],
                "ranking.PRO is no PairObjective or PointObjective (PROModule takes it), did you mean 'CPO' or",
            ),
            (
                ["--trainer.callbacks+", "Gold"],
                "--trainer.callbacks: no class named 'Gold', did you mean 'GoldEvaluation'?",
            ),
            (
                ["--model.objective", "FDPO", "--model.objective.divergence", "Alph"],
                "no class named 'Alph', did you mean 'Alpha'? (known: Alpha, ForwardKL, JensenShannon)",
            ),
        ],
    )
    def test_an_unknown_name_is_told_the_nearest_of_its_kind(self, told, extra: list[str], line: str) -> None:
        assert line in told("fit", "--data", "HHRLHFDataModule", "--data.path", "x", *MODEL, *extra)


def test_another_parser_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import align.cli.class_paths as module
    from align.errors import ConfigError

    monkeypatch.setattr(module, "_originals", {})
    monkeypatch.setattr(module._typehints, "adapt_typehints", lambda value, kind: value)
    with pytest.raises(ConfigError, match=r"no adapt_typehints\(val, typehint\): install version 4.53"):
        mean_classes()


@pytest.mark.parametrize(("word", "weights"), [("null", None), ("{verbosity: -1.0}", {"verbosity": -1.0})])
def test_null_stays_null_however_deep_a_setting_lies(word: str, weights: dict[str, float] | None) -> None:
    """Three classes deep it arrived as the text None: an error, or for a text a value that nobody meant."""
    judge = {
        "class_path": path_of(ScorerJudge),
        "init_args": {"scorer": "GoldRewards", "direction": {"weights": {"a": 1}}},
    }
    scorer = json.dumps({"class_path": path_of(WinRates), "init_args": {"judge": judge}})
    made = parser(Scorer)
    found = made.parse_args(["--x", scorer, "--x.judge.direction.weights", word])
    assert found.x.init_args.judge.init_args.direction.weights == weights
    judged = {
        "class_path": path_of(LanguageModelScorer),
        "init_args": {
            "responder": {"class_path": path_of(Endpoint), "init_args": {"base_url": "http://x", "model": "m"}}
        },
    }
    found = made.parse_args(["--x", json.dumps(judged), "--x.responder.api_key_env", "null"])
    assert found.x.init_args.responder.init_args.api_key_env is None


def test_texts_among_values_of_any_type_stay_texts(tmp_path: Path) -> None:
    """`{pattern: "[a-p]"}` arrived as a list, "12" as a number; in the saved config too, from which a run goes on."""
    values = {"pattern": "[a-p]", "number": "12", "word": "yes", "none": "null", "pair": "a: b", "list": [1, "2"]}
    kinds = (
        (Scorer, FunctionRewards, "arguments", {"function": "a:b"}),
        (EngineKind, ColocatedVLLM, "options", {}),
        (ChatBackend, Endpoint, "extra", {"base_url": "http://x", "model": "m"}),
        (ChatBackend, LocalModel, "chat_template_kwargs", {"model": {"path": "x"}}),
    )
    for kind, cls, name, more in kinds:
        words, file = [f"--x.{option}={json.dumps(value)}" for option, value in more.items()], tmp_path / "x.yaml"
        given = {"class_path": path_of(cls), "init_args": {**more, name: values}}
        file.write_text(yaml.safe_dump({"x": given}))
        read = parser(kind).parse_args(["-c", str(file)])
        for found in (
            read,
            parser(kind).parse_string(parser(kind).dump(read)),
            parser(kind).parse_args(["--x", json.dumps(given)]),
            parser(kind).parse_args(["--x", path_of(cls), *words, f"--x.{name}", json.dumps(values)]),
        ):
            assert found.x.init_args[name] == values, cls
        found = parser(kind).parse_args(["-c", str(file), f"--x.{name}.more", "3"])
        assert found.x.init_args[name] == {**values, "more": 3}
