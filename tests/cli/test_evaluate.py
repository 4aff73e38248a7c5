"""`align evaluate`: rewards at several temperatures, text measures, judges, what a second run does again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from align.cli.main import main
from align.data.hh_rlhf import SUBSETS
from align.evaluation.text import character_bleu
from tests.tiny import save_reward_model, save_tiny

COMMON = ("--sampling.generation.max_new_tokens", "8", "--sampling.limit", "6", "--out", "out")


def evaluated() -> dict[str, Any]:
    return json.loads(Path("out/evaluation.json").read_text())


def test_rewards_by_temperature_and_subset(
    model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rm = [str(save_reward_model(tmp_path / f"rm{seed}", seed)) for seed in (1, 2)]
    models = [str(model_folder), str(save_tiny(tmp_path / "other", num_hidden_layers=1))]
    other = tmp_path / "more.jsonl"
    other.write_text("\n".join(json.dumps({"prompt": f"p {n % 3}", "completion": "c"}) for n in range(4)))
    words = [
        "evaluate",
        "--models",
        json.dumps(models),
        "--prompts",
        json.dumps({"a": str(pairs_file), "b": str(other)}),
    ]
    words += ["--rewards", json.dumps(rm), "--sampling.temperatures", "[0, 1.0]", "--start", models[0], *COMMON]
    assert main(words) == 0
    report = evaluated()
    notes = {"read": 4, "kept": 3, "dropped": {"prompt that stands twice": 1}}
    assert report["settings"]["prompts"]["b"] == notes
    assert list(report["models"]) == models
    levels = report["models"][models[0]]
    assert list(levels) == ["0.0", "1.0"]
    for level in levels.values():
        for output in rm:
            parts = level["rewards"][output]
            assert [parts[k]["prompts"] for k in ("a", "b", "total")] == [6, 3, 9]
            # sample-weighted: every prompt counts alike
            expected = (6 * parts["a"]["raw"][0] + 3 * parts["b"]["raw"][0]) / 9
            assert parts["total"]["raw"][0] == pytest.approx(expected)
            assert 0 < parts["total"]["sigmoid"][1] <= parts["total"]["sigmoid"][2] < 100
            values = level["per_prompt"][output]
            scaled = sum(100 / (1 + math.exp(-v)) for v in values) / 9
            assert parts["total"]["sigmoid"][0] == pytest.approx(scaled)
        assert set(level["text_by_subset"]) == {"a", "b"}
        words = [level["text_by_subset"][k]["mean_words"] for k in ("a", "b")]
        assert level["text"]["mean_words"] == pytest.approx((6 * words[0] + 3 * words[1]) / 9)
        assert level["subsets"] == ["a"] * 6 + ["b"] * 3
    assert levels["1.0"]["kl"][0] == pytest.approx(0, abs=1e-5)  # the model is the start itself
    assert report["models"][models[1]]["1.0"]["kl"] is not None
    assert levels["0.0"]["kl"] is None
    shown = capsys.readouterr().out
    assert "rewards (95 % bootstrap" in shown
    assert main(["report", "out", "--out", "page.html"]) == 0
    tables = Path("page.md").read_text()
    mean = levels["1.0"]["rewards"][rm[0]]["total"]["raw"][0]
    assert any(f"{mean:.3g} [" in line for line in tables.splitlines() if line.startswith("| tiny | 1 |"))
    assert "rm2, by subset" in tables
    assert "Win rate % of the row over the column, by the reward rm1, T 1" in tables
    assert "Responses: out" in Path("page.html").read_text()
    assert shown.count("│ total") == 4  # two models at two temperatures, and each of the subsets
    assert shown.count("│ a ") == shown.count("│ b ") == 4
    assert "other" in shown


def test_second_run_samples_nothing_again(
    model_folder: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", "--models", f"[{model_folder}]", "--prompts", str(pairs_file), *COMMON]
    assert main(words) == 0
    first = evaluated()
    monkeypatch.setattr("align.evaluation.policy.Sampler.sample", lambda *_, **__: 1 / 0)
    assert main(words) == 0
    assert str(evaluated()) == str(first)  # NaN is not equal to itself
    with pytest.raises(ZeroDivisionError):
        main([*words, "--sampling.generation.max_new_tokens", "9"])


def test_reward_model_as_judge_mirrors(model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    other = str(save_tiny(tmp_path / "other", num_hidden_layers=1))
    rates = []
    for one, two in ((str(model_folder), other), (other, str(model_folder))):
        words = ["evaluate", "--models", f"[{one}]", "--against", two, "--prompts", str(pairs_file), *COMMON]
        assert main([*words, "--judge", "RewardJudge", "--judge.path", str(save_reward_model(tmp_path / "rm"))]) == 0
        (found,) = evaluated()["judge"].values()
        rates.append(found["total"]["win_rate"][0])
        assert found["total"]["flip_rate"][0] == 0
    assert sum(rates) == pytest.approx(1)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--rewards", "[{model}]"], "has no reward head"),
        (["--start", "{model}"], "temperature 1"),
        (
            ["--scorer", "WinRates", "--scorer.judge", "GoldJudge"],
            "their mean is 1/2 whatever they are: name its judge",
        ),
        (["--sampling.temperatures", "[-1]"], "from 0"),
        (["--judge", "os.system"], "outside the packages"),
        (["--judge", "LanguageJudge", "--judge.responder", "Endpoint", "--judge.responder.base_url", "x"], "model"),
        (["--promts", "x"], "did you mean"),
    ],
)
def test_bad_input_is_one_line(
    more: list[str], says: str, model_folder: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--models", f"[{model_folder}]", "--prompts", str(pairs_file), *COMMON]
    assert main(words + [word.format(model=model_folder) for word in more]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("align evaluate:")
    assert says in line


def test_prompts_without_references_need_a_rival(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    words = ["evaluate", "--models", f"[{model_folder}]", "--prompts", str(tmp_path / "p.jsonl"), *COMMON]
    assert main([*words, "--judge", "GoldJudge"]) == 2
    assert "name a model folder in --against" in capsys.readouterr().err


def test_two_named_reward_models_and_bleu_by_subset_of_hh(model_folder: Path, tmp_path: Path) -> None:
    """PRO's tables: two reward models in one command, rewards and BLEU of each subset of HH-RLHF and of all."""
    files = {}
    for number, subset in enumerate(SUBSETS):
        (tmp_path / subset).mkdir()
        files[subset] = tmp_path / subset / "test.jsonl"
        asked = [f"\n\nHuman: {subset} {n}\n\nAssistant:" for n in range(2 + number)]
        rows = [{"chosen": f"{text} yes {n}", "rejected": f"{text} no"} for n, text in enumerate(asked)]
        files[subset].write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, final = (save_reward_model(tmp_path / f"rm{seed}", seed) for seed in (1, 2))
    prompts = [f"{subset} {n}" for number, subset in enumerate(SUBSETS) for n in range(2 + number)]
    texts = [f"yes {n % 3}" for n in range(14)]
    answers = tmp_path / "answers.jsonl"
    rows = [{"prompt": p, "completion": text} for p, text in zip(prompts, texts, strict=True)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["evaluate", "--models", f"[{answers},{model_folder}]"]
    words += ["--rewards.train", str(train), "--rewards.eval", str(final)]
    words += [word for subset, file in files.items() for word in (f"--prompts.{subset}", str(file))]
    assert main([*words, "--reward_tokens.eval", "64", *COMMON]) == 0
    assert set(evaluated()["models"][str(model_folder)]["0.0"]["rewards"]) == {"train", "eval"}
    level = evaluated()["models"][str(answers)]["0.0"]
    assert {name: read["path"] for name, read in evaluated()["settings"]["rewards"].items()} == {
        "train": str(train),
        "eval": str(final),
    }
    assert evaluated()["settings"]["rewards"]["eval"]["max_tokens"] == 64
    references = [f"yes {n}" for number in range(4) for n in range(2 + number)]
    assert [level["rewards"]["train"][s]["prompts"] for s in (*SUBSETS, "total")] == [2, 3, 4, 5, 14]
    first = 0
    for number, subset in enumerate(SUBSETS):
        part = slice(first, first := first + 2 + number)
        bleu = level["text_by_subset"][subset]["bleu_characters_pro"]
        assert 0 < bleu == pytest.approx(character_bleu(texts[part], references[part]))
    assert level["text"]["bleu_characters_pro"] == pytest.approx(character_bleu(texts, references))
