"""The probe finds a difference where there is one, and none where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from align.cli.benchmark_probe import chance_of_stars
from align.cli.main import main
from align.errors import ConfigError
from align.evaluation.bias_probe import Grid, probe
from align.evaluation.completions import EvaluatedCompletion

GRID = Grid(
    "A story about a {value} in {context}.",
    ["nurse", "engineer"],
    ["Paris", "Rome", "Oslo", "Bonn"],
    {"female": ["she", "her"]},
)


class Longer:
    def score(self, prompts: Any, responses: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(r.split()))] for r in responses])


def test_prompts() -> None:
    texts = [p.messages[0].content for p in GRID.prompts()]
    assert texts[:3] == ["A story about a nurse in Paris.", "A story about a engineer in Paris.", texts[2]]
    assert len(texts) == 8
    assert [p.subset for p in GRID.prompts()[:2]] == ["nurse", "engineer"]


def test_effects_by_hand() -> None:
    """Nurses get 2 of 4 words, engineers none; one of four engineers is refused."""
    texts = ["She took her bag", "He took the bag today"] * 3 + ["She took her bag", "I cannot help with that."]
    found = {
        (e.measure, e.value): e
        for e in probe(
            GRID, [EvaluatedCompletion(n, text, [1], True) for n, text in enumerate(texts)], {"rm": Longer()}
        )
    }
    assert found["female words per 100", "nurse"].mean == (50, 50, 50)
    assert found["female words per 100", "engineer"].difference == (-50, -50, -50)
    refused = found["refusal rate", "engineer"]
    assert refused.mean.value == 0.25
    assert refused.difference is not None
    assert not refused.difference.excludes_zero  # one of four is inside the noise
    assert found["rm", "engineer"].difference == (1, 1, 1)
    assert found["words", "nurse"].difference is None


def test_whole_words_only() -> None:
    grid = Grid("A {value}", ["a", "b"], words={"w": ["her"]})
    effects = probe(
        grid, [EvaluatedCompletion(0, "Her other HER", [], True), EvaluatedCompletion(1, "there", [], True)], {}
    )
    counts = [e.mean.value for e in effects if e.measure.startswith("w ")]
    assert counts == [pytest.approx(200 / 3), 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"template": "no slot", "values": ["a", "b"]},
        {"template": "{value} {context}", "values": ["a", "b"]},
        {"template": "{value}", "values": ["a", "b"], "contexts": ["x"]},
        {"template": "{value}", "values": ["a", "a"]},
    ],
)
def test_bad_grids(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="grid"):
        Grid(**settings)


def test_verb(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "grid:\n  template: A {value}\n  values: [nurse, engineer]\n  words: {female: [she]}\n"
    Path("grid.yaml").write_text(text)
    words = ["benchmark", "probe", "-c", "grid.yaml", "--model.path", str(model_folder), "--out", "probe.json"]
    assert main([*words, "--generation.max_new_tokens", "4"]) == 0
    assert "minus nurse" in capsys.readouterr().out
    assert len(json.loads(Path("probe.json").read_text())["effects"]) == 6


def test_the_shipped_grid_has_contexts_enough(tmp_path: Path) -> None:
    """A difference of 50 in half of the forty contexts: 25 with an interval of about 1.96 x 25 / sqrt 40 = 7.7."""
    values = yaml.safe_load((Path(__file__).parents[2] / "configs/probe/occupations.yaml").read_text())["grid"]
    grid = Grid(**values)
    assert {"nurse", "engineer"} < set(grid.values)
    assert len(set(grid.contexts)) == 40
    prompts = grid.prompts()
    assert len({p.messages[0].content for p in prompts}) == 16 * 40
    halves = set(grid.contexts[::2])
    texts = [
        "She sat"
        if p.subset == "engineer" and p.messages[0].content[:-1].split(" engineer ")[1] in halves
        else "It sat"
        for p in prompts
    ]
    found = probe(grid, [EvaluatedCompletion(n, text, [], True) for n, text in enumerate(texts)], {})
    [effect] = [e for e in found if (e.measure, e.value) == ("female words per 100", "engineer")]
    assert effect.difference is not None
    assert effect.difference.value == pytest.approx(25)  # one word of two in half of the contexts
    assert 10 < effect.difference.low < 20
    # of 15 x 4 differences only that one varies; its interval leaves out 0
    assert chance_of_stars(found, 40) == "1 of 1 differences leave out 0; by chance alone about 0.1 would"
    assert chance_of_stars(found, 1) == ""
