"""Fronts of models: measured, kept, compared by `align front measure` and `align front compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from align.cli.front_compare import compare
from align.cli.main import main
from align.errors import DataError
from align.evaluation.fronts import Front, Point, points_of, read_front, write_front
from align.evaluation.hypervolume import hypervolume
from align.models.condition_file import Conditions, read_condition_file, write_condition_file
from align.records import TwoDigits
from tests.cli.conftest import told
from tests.rounds.runs import world_model

__all__ = ["told", "world_model"]
SHORT = ["--generation", "{max_new_tokens: 8, num_samples: 2, temperature: 1.0, batch_tokens: 40000}"]
ASKS = Conditions(TwoDigits(), "direction", [])


def front(name: str, points: list[tuple[float, float]], spread: float = 0.0) -> Front:
    """Three prompts around each mean."""
    around = np.array([-spread, 0.0, spread])[None, :, None]
    rewards = np.array(points)[:, None, :] + around
    asked = tuple(Point(str(i), angle=-45.0 * i) for i in range(len(points)))
    return Front(name, ("helpfulness", "verbosity"), asked, rewards)


def test_points_of_a_model() -> None:
    assert [p.angle for p in points_of(ASKS, 4)] == [0.0, -15.0, -30.0, -45.0]
    rated = Conditions(TwoDigits(), "ratings", [(80.0, 20.0), (90.0, 61.5)])
    assert [(p.label, p.clause) for p in points_of(rated, 9)] == [
        ("80, 20", "helpfulness 80 verbosity 20"),
        ("90, 62", "helpfulness 90 verbosity 62"),
    ]
    assert points_of(None, 9) == [Point("as it is")]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    one = front("a", [(70, 60), (50, 20)], 3)
    write_front(one, tmp_path / "a.json")
    again = read_front(tmp_path / "a.json")
    assert again.points == one.points
    assert np.array_equal(again.rewards, one.rewards)
    with pytest.raises(DataError, match="no file of `align front measure`"):
        read_front(tmp_path / "b.json")
    with pytest.raises(DataError, match="no reward 'wit'"):
        one.columns(["helpfulness", "-wit"])


def test_worth_is_the_scalar_product() -> None:
    """At 0 degrees helpfulness alone, 70; at -45 (50 - 20) / sqrt 2 = 21.213."""
    worth = front("a", [(70, 60), (50, 20)], 3).worth(ASKS)
    assert [w and w.value for w in worth] == pytest.approx([70.0, 21.2132], abs=1e-4)
    assert worth[0] is not None
    assert 67 <= worth[0].low < 70 < worth[0].high <= 73


def test_standings() -> None:
    """The worked fronts of the paper's rewards against (40, 80): 1240 by hand; `b` lies inside, `c` crosses it."""
    worked = [(70, 60), (66, 45), (50, 20)]
    fronts = [front("a", worked, 2), front("b", [(60, 50)], 2), front("c", [(75, 70)], 2)]
    standings = compare(fronts, ["helpfulness", "-verbosity"], np.array([40.0, -80.0]))
    assert [s.hypervolume.value for s in standings] == [1240.0, 20 * 30.0, 35 * 10.0]
    assert [s.dominates for s in standings] == [["b"], [], []]
    assert [s.on_front for s in standings] == [3, 1, 1]
    assert standings[0].means == [list(p) for p in worked]
    assert standings[0].hypervolume.low < 1240 < standings[0].hypervolume.high


def test_a_prompt_without_a_score_is_left_out_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One response that a reward model could not read made every mean NaN and every hypervolume 0, in silence."""
    a, b = front("a", [(70, 60), (50, 20)], 3), front("b", [(60, 50)], 3)
    a.rewards[1, 2, 0] = np.nan
    for one in (a, b):
        write_front(one, tmp_path / f"{one.name}.json")
    words = ["front", "compare", "--models", f"[{tmp_path}/a.json,{tmp_path}/b.json]", "--out", str(tmp_path / "p")]
    assert main([*words, "--attributes", "[helpfulness,-verbosity]", "--reference", "[40,80]"]) == 0
    assert "1 of 3 prompts are left out: the scorer gives a response to them no score" in capsys.readouterr().out
    found = json.loads((tmp_path / "p" / "pareto.json").read_text())["models"]
    # of the first two prompts, whose means lie 1.5 lower: b (58.5, 48.5), a (68.5, 58.5) and (48.5, 18.5)
    assert [one["means"] for one in found] == [[[68.5, 58.5], [48.5, 18.5]], [[58.5, 48.5]]]
    assert found[1]["hypervolume"][0] == pytest.approx(18.5 * 31.5)
    assert found[0]["hypervolume"][0] == pytest.approx(28.5 * 21.5 + 8.5 * 40)
    b.rewards[:, :2, 1] = np.nan
    write_front(b, tmp_path / "b.json")
    assert main([*words, "--attributes", "[helpfulness,-verbosity]"]) == 2
    assert "none of 3 prompts has a score of every response" in capsys.readouterr().err
    with pytest.raises(ValueError, match="got NaN"):
        hypervolume(np.array([[np.nan, 1.0]]), (0, 0))


def test_commands(world_model: Path, tmp_path: Path, told: Callable[..., str], capsys: pytest.CaptureFixture) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in world_model.iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    assert "no conditions.json" in told("front", "measure", "--model.path", str(world_model))
    write_condition_file(Conditions(TwoDigits(), "direction", []), world_model)
    assert read_condition_file(str(world_model)) == ASKS
    out = tmp_path / "d"
    assert main(["front", "measure", "--model.path", str(world_model), "--count", "3", "--out", str(out), *SHORT]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    assert "helpfulness 50 verbosity 49" in table[3]
    assert (out / "directions.png").stat().st_size > 10_000
    found = read_front(out / "front.json")
    assert found.rewards.shape == (3, 120, 2)
    models = f"[{plain},{out / 'front.json'}]"
    words = [
        "front",
        "compare",
        "--models",
        models,
        "--attributes",
        "[helpfulness,-verbosity]",
        "--names",
        "[plain,asked]",
        *SHORT,
    ]
    assert main([*words, "--reference", "[0,100]", "--out", str(tmp_path / "p")]) == 0
    content = json.loads((tmp_path / "p" / "pareto.json").read_text())
    assert content["reference"] == [0.0, 100.0]
    means = found.rewards.mean(1) * [1, -1]
    assert content["models"][1]["hypervolume"][0] == pytest.approx(hypervolume(means, (0, -100)))
    assert (tmp_path / "p" / "pareto.png").stat().st_size > 10_000
    events = EventAccumulator(str(tmp_path / "p"))
    events.Reload()
    assert events.Tags()["images"] == ["pareto"]
    bad_input(plain, out / "front.json", told)


def bad_input(plain: Path, measured: Path, told: Callable[..., str]) -> None:
    assert "name two with --attributes" in told("front", "compare", "--models", f"[{plain}]")
    assert "1 models but 2 names" in told("front", "compare", "--models", f"[{plain}]", "--names", "[a,b]")
    both = f"[{measured},{measured}]"
    assert "same name" in told("front", "compare", "--models", both, "--attributes", "[helpfulness,-verbosity]")
    assert "name one" in told("front", "measure", "--model.path", str(plain.parent / "world"), "--prompts", "x.jsonl")
    (plain / "conditions.json").write_text('{"asks": "direction", "targets": [], "conditioning": {"form": "Odd"}}')
    assert "form 'Odd', expected one of" in told("front", "measure", "--model.path", str(plain))
