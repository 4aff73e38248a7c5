"""`align evaluate` with a judge behind an endpoint: from a YAML file, paused by a budget, continued."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.cli.main import main
from tests.cli.test_evaluate import COMMON, evaluated
from tests.judges.conftest import KEY, Server
from tests.test_configs import CPU, METHOD, ROOT
from tests.tiny import save_tiny


def test_judge_behind_an_endpoint(
    server: Server,
    model_folder: Path,
    pairs_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a YAML file, against the references: the server prefers the longer; a second run asks nothing."""
    config = tmp_path / "judge.yaml"
    config.write_text(
        f"""judge:
  class_path: LanguageJudge
  init_args:
    responder:
      class_path: Endpoint
      init_args: {{base_url: "{server.url}", model: judge-1, api_key_env: JUDGE_KEY}}
"""
    )
    words = ["evaluate", "-c", str(config), "--models", f"[{model_folder}]", "--prompts", str(pairs_file), *COMMON]
    assert main(words) == 0
    (found,) = evaluated()["judge"].values()
    assert found["total"]["items"] == 6
    assert len(found["preferences"]) == 6
    assert found["canaries"] is not None
    asked = len(server.requests())
    assert asked == 2 * (6 + 4)
    assert "judged by judge-1 (rahf), against references" in capsys.readouterr().out
    assert main(words) == 0
    assert len(server.requests()) == asked
    assert not any(KEY.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert not any(KEY.encode() in p.read_bytes() for p in Path("out").rglob("*") if p.is_file())


def test_agreement_with_people(
    server: Server, model_folder: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server prefers the longer: people agree on 9 of 12 pairs, on which side either stands; one of theirs is a tie."""
    rows = [{"prompt": f"q{n}", "chosen": "a longer one", "rejected": "short"} for n in range(9)]
    rows += [{"prompt": f"r{n}", "chosen": "short", "rejected": "a longer one"} for n in range(2)]
    rows += [{"prompt": "t", "chosen": "a longer one", "rejected": "short", "score_chosen": 1, "score_rejected": 1}]
    rows += [{"prompt": "CASE=refusal", "chosen": "a longer one", "rejected": "short"}, {"prompt": "alone"}]
    Path("human.jsonl").write_text("\n".join(map(json.dumps, rows)))
    other = save_tiny(tmp_path / "other", num_hidden_layers=1)
    words = ["evaluate", "--models", f"[{model_folder},{other}]", "--prompts", str(pairs_file), *COMMON]
    words += ["--judge", "LanguageJudge", "--judge.responder", "Endpoint", "--judge.responder.base_url", server.url]
    words += ["--judge.responder.model", "judge-1", "--judge.responder.api_key_env", "JUDGE_KEY"]
    assert main([*words, "--human", "human.jsonl"]) == 0
    found = evaluated()
    assert found["human"]["rate"][0] == pytest.approx(9 / 12)
    assert found["human"]["decided"][0] == pytest.approx(9 / 11)
    assert (found["human"]["items"], found["human"]["left_out"]) == (12, 1)
    assert 0 < found["human"]["kappa"][0] < 9 / 12
    assert set(found["standardised"]) == {"share", "odds", "max"}
    assert sum(found["standardised"]["share"].values()) == pytest.approx(1)
    assert found["standardised"]["odds"]["references"] == 1
    shown = capsys.readouterr().out
    assert "judge-1 (rahf) and the people of human.jsonl" in shown
    assert "no pair with a preference" in shown
    assert (
        main(["evaluate", "--models", f"[{model_folder}]", "--prompts", str(pairs_file), "--human", "human.jsonl"]) == 2
    )
    assert "needs a --judge" in capsys.readouterr().err


def test_paused_by_a_budget_and_continued(
    server: Server,
    model_folder: Path,
    pairs_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["evaluate", "--models", f"[{model_folder}]", "--prompts", str(pairs_file), *COMMON]
    words += ["--judge", "LanguageJudge", "--judge.responder", "Endpoint", "--judge.responder.base_url", server.url]
    words += ["--judge.responder.model", "judge-1", "--judge.responder.api_key_env", "JUDGE_KEY"]
    words += ["--judge.canaries", "false", "--judge.responder.budget.requests"]
    assert main([*words, "5"]) == 75
    assert "5 of 12 replies are kept" in capsys.readouterr().err
    assert main([*words, "12"]) == 0
    assert len(server.requests()) == 12


def test_judge_fragment_while_training(server: Server, model_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    text = (ROOT / "configs/callbacks/judge.yaml").read_text()
    own = tmp_path / "judge.yaml"
    own.write_text(text.replace("https://api.openai.com/v1", server.url).replace("OPENAI_API_KEY", "JUDGE_KEY"))
    words = ["fit", "-c", METHOD, "--data", "PreferenceFileDataModule", "--data.path", str(pairs_file), "-c", CPU]
    words += ["-c", str(own), "--model.backbone.path", str(model_folder), "--data.splits.val_fraction", "0.1"]
    words += ["--trainer.limit_train_batches", "1", "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(words) == 2  # the server does not answer as gpt-4-0613, so that no verdict is valid
    assert server.requests()
    own.write_text(own.read_text().replace("gpt-4-0613", "judge-1"))
    words[-1] = str(tmp_path / "again")
    assert main(words) == 0
    assert (tmp_path / "again/judge.jsonl").exists()
    assert not any(KEY.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
