"""Judges, sampling, rounds and lm-eval behind `transformers serve` itself, not behind a stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from align.cli.main import main
from tests.cli.things import TEMPLATE, lines
from tests.evaluation.test_lm_eval_tasks import TASK
from tests.judges.real_server import save_chain, transformers_serve
from tests.rounds.runs import RESAMPLING
from tests.test_configs import CPU, ROOT
from tests.tiny import FEW_SAMPLES, save_tiny

pytest.importorskip("fastapi")
pytest.importorskip("openai")
ROWS = [{"prompt": f"Tell me {n}", "chosen": f"c {n}", "rejected": "d"} for n in range(4)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with transformers_serve(tmp_path_factory.mktemp("served") / "log.txt") as found:
        yield found


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    lines(tmp_path / "p.jsonl", ROWS)
    return save_tiny(tmp_path / "policy", template=TEMPLATE, initializer_range=0.7)


@pytest.mark.slow
def test_a_judge_sampling_and_rounds(
    url: str,
    policy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One test, so that one worker starts one server."""
    judges(url, policy, tmp_path)
    draws(url, policy, capsys)
    monkeypatch.setenv("ALIGN_IMPORT_ALLOW", "own_rewards.py")
    rounds(url, policy, capsys)


def judges(url: str, policy: Path, tmp_path: Path) -> None:
    """It always answers A: every verdict flips with the order, so that nobody wins."""
    judge = save_chain(tmp_path / "judge", "]A")
    words = ["evaluate", "--models", f"[{policy}]", "--prompts", "p.jsonl", "--out", "out", "--judge", "LanguageJudge"]
    words += ["--sampling.generation.max_new_tokens", "4", "--judge.responder", "Endpoint"]
    words += ["--judge.responder.base_url", url, "--judge.responder.model", str(judge)]
    assert main([*words, "--judge.responder.api_key_env", "null", "--judge.canaries", "false"]) == 0
    total = json.loads(Path("out/evaluation.json").read_text())["judge"][str(policy)]["total"]
    assert (total["items"], total["invalid"]) == (4, 0)
    assert (total["win_rate"][0], total["flip_rate"][0], total["first_rate"]) == (0.5, 1.0, 1.0)


def drawn(url: str, policy: Path, *words: str) -> list[str]:
    server = ("--server.base_url", url, "--server.model", str(policy), "--server.api_key_env", "null")
    given = ["generate", "--model.path", str(policy), "--prompts", "p.jsonl", "--generation.max_new_tokens", "6"]
    assert main([*given, *(server if url else ()), *words, "--out", "g.jsonl"]) == 0
    return [json.loads(line)["completion"] for line in Path("g.jsonl").read_text().splitlines()]


def draws(url: str, policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Greedy texts are those of the folder; what the server does not do is told."""
    greedy, chat = ("--generation.temperature", "0"), ("--server.api", "chat")
    assert drawn(url, policy, *greedy, *chat) == drawn("", policy, *greedy)
    words = ["generate", "--model.path", str(policy), "--prompts", "p.jsonl", "--server.base_url", url]
    words += ["--server.model", str(policy), "--server.api_key_env", "null"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "prompt must be a string" in said
    assert "one that takes no token ids is asked by api `chat`" in said
    many = ("--generation.temperature", "1", "--generation.num_samples", "5", *chat)
    with pytest.warns(UserWarning, match="16 samples at a temperature above 0 are each the same"):
        alike = drawn(url, policy, *many)
    assert len(set(alike)) == 4  # one text of each prompt
    drawing = save_tiny(policy.with_name("drawing"), template=TEMPLATE, initializer_range=0.7)
    GenerationConfig(do_sample=True, eos_token_id=1, pad_token_id=2).save_pretrained(drawing)
    assert len(set(drawn(url, drawing, *many))) > 10


def rounds(url: str, policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Greedy rounds of fine-tuning, by the server and by our engine: the same texts in both, others after training."""
    letters = writes_letters(policy.with_name("letters"))
    Path("own_rewards.py").write_text("def length(completions):\n    return [float(len(c)) for c in completions]\n")
    words = ["fit", "-c", str(ROOT / "configs" / "method" / "sft.yaml"), "-c", CPU, *FEW_SAMPLES]
    words += ["--data", "PreferenceFileDataModule", "--data.path", "p.jsonl", "--data.batching.groups", "2"]
    words += ["--model.backbone.path", str(letters), "--model.optimizer.learning_rate", "3e-2"]
    words += [
        "--trainer.max_epochs",
        "2",
        "--trainer.callbacks+",
        RESAMPLING,
        "--trainer.callbacks.selection",
        "BestOfN",
    ]
    words += ["--trainer.callbacks.scorer", "FunctionRewards", "--trainer.callbacks.missing_eos_penalty", "0.0"]
    words += ["--trainer.callbacks.scorer.function", "own_rewards.py:length", "--trainer.callbacks.generation"]
    words += ["{max_new_tokens: 6, num_samples: 1, temperature: 0.0}"]
    served = ["--trainer.callbacks.engine", json.dumps({"urls": [url]})]
    for root, more in (("own", []), ("served", served)):
        assert main([*words, *more, "--trainer.default_root_dir", root]) == 0
    found = {
        root: [Path(f"{root}/rounds/round-000{n}.jsonl").read_text() for n in range(2)] for root in ("own", "served")
    }
    assert found["served"] == found["own"]
    responses = [[json.loads(line)["responses"] for line in text.splitlines()] for text in found["own"]]
    assert responses[0] != responses[1]
    assert f"server {url} gives texts: they are encoded again" in capsys.readouterr().err
    online = ["fit", "-c", str(ROOT / "configs" / "method" / "grpo.yaml"), *words[3:]]
    online[online.index("BestOfN")] = "EverySample"
    online[-1] = "{max_new_tokens: 6, num_samples: 2}"
    assert main([*online, *served, "--trainer.default_root_dir", "online"]) == 2
    assert "gives texts, which encoded again may be other tokens than it drew" in capsys.readouterr().err


def writes_letters(folder: Path) -> Path:
    """Save a policy whose likeliest tokens are letters: texts of others, encoded again, may be other tokens."""
    save_tiny(folder, template=TEMPLATE, initializer_range=0.7)
    model, tokenizer = (
        kind.from_pretrained(folder, trust_remote_code=False) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    others = [
        n
        for n, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
        if not (token.isascii() and token.isalpha())
    ]
    with torch.no_grad():
        model.get_output_embeddings().weight[others] = 0.0
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_task_of_lm_eval(url: str, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    model = save_chain(tmp_path / "says-yes", "]yes")
    lines(tmp_path / "rows.jsonl", [{"q": f"word {n}", "label": "yes" if n % 2 else "no"} for n in range(4)])
    (tmp_path / "tasks").mkdir()
    head = TASK.replace("FILE", str(tmp_path / "rows.jsonl")).split("output_type")[0].replace("own_choice", "own_text")
    rest = "output_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{label}}'\n"
    rest += "generation_kwargs: {until: ['.'], max_gen_toks: 8}\nmetric_list: [{metric: exact_match}]\n"
    (tmp_path / "tasks" / "own.yaml").write_text(head + rest)
    words = ["benchmark", "lm-eval", "--models.served.base_url", url, "--models.served.model", str(model)]
    words += ["--models.served.api", "chat", "--models.served.api_key_env", "null", "--tasks", "own_text"]
    assert main([*words, "--include", str(tmp_path / "tasks"), "--out", "o.json"]) == 0
    (result,) = json.loads(Path("o.json").read_text())["models"][0]["results"]
    assert (result["metric"], result["value"], result["documents"]) == ("exact_match", 0.5, 4)
