"""Forms of keys that are refused wherever a setting can come from, and what settings hold that is none."""

from __future__ import annotations

import base64
import random
import string
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from align.cli.secrets import check_secret_settings, check_secrets, check_words
from align.errors import ConfigError
from tests.test_configs import ROOT

DRAW = random.Random(5)
LETTERS = string.ascii_letters + string.digits


def drawn(length: int, letters: str = LETTERS) -> str:
    return "".join(DRAW.choice(letters) for _ in range(length))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


HEX = "0123456789abcdef"
OPENAI = f"sk-proj-{drawn(20)}_{drawn(30)}"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(64)}\n-----END RSA PRIVATE KEY-----"
JWT = ".".join([*map(encoded, ('{"alg": "HS256"}', '{"sub": "1234567890"}')), drawn(43)]).replace("=", "")
FORMS = {
    "OpenAI": OPENAI,
    "OpenAI, old": f"sk-{drawn(48)}",
    "OpenAI, service": f"sk-svcacct-{drawn(60)}",
    "Anthropic": f"sk-ant-api03-{drawn(40)}-{drawn(40)}AA",
    "OpenRouter": f"sk-or-v1-{drawn(64, HEX)}",
    "Hugging Face": f"hf_{drawn(34)}",
    "AWS id": f"AKIA{drawn(16, string.ascii_uppercase + '234567')}",
    "AWS secret": f"aws_secret_access_key: {drawn(20)}/{drawn(19)}",
    "GitHub": f"ghp_{drawn(36)}",
    "GitHub, fine": f"github_pat_{drawn(22)}_{drawn(59)}",
    "GitLab": f"glpat-{drawn(20)}",
    "Slack": f"xoxb-{drawn(12, string.digits)}-{drawn(12, string.digits)}-{drawn(24)}",
    "Slack hook": f"https://hooks.slack.com/services/T{drawn(8)}/B{drawn(8)}/{drawn(24)}",
    "Google": f"AIza{drawn(35)}",
    "JWT": JWT,
    "private key": PEM,
    "address": "https://someone:hunter2@example.org/data.jsonl",
    "address, token": f"https://{drawn(32, HEX)}@example.org/data.jsonl",
    "address of a database": "postgresql://user:s3cr3t@db:5432/x",
    "bearer": f"Authorization: Bearer {drawn(32)}",
    "basic": f"Authorization: Basic {encoded('user:correct-horse-7')}",
    "Azure storage": f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={drawn(86)}==",
    "Azure OpenAI": f"api_key: {drawn(32, HEX)}",
    "Azure application": f"{drawn(3)}8Q~{drawn(34)}",
    "W&B": f"WANDB_API_KEY={drawn(40, HEX)}",
    "query": f"https://example.org/v1?model=a&api_key={drawn(24)}&x=1",
    "signature": f"https://example.org/blob?sv=2024&sig={drawn(40)}%3D",
    "password": "password: correct-horse",
    "client secret": f'client_secret: "{drawn(30)}"',
    "camel case": f'{{"secretAccessKey": "{drawn(40)}"}}',
    "UUID": "api_key: 3f2b8c1e-9a4d-4f6b-8e2a-7c5d1b9f0e3a",
    "Groq": f"gsk_{drawn(52)}",
    "Stripe": f"sk_live_{drawn(24)}",
    "SendGrid": f"SG.{drawn(22)}.{drawn(43)}",
    "npm": f"//registry.npmjs.org/:_authToken={drawn(36)}",
    "base64": encoded(OPENAI),
    "base64 for URLs": base64.urlsafe_b64encode(f"x?>{OPENAI}".encode()).decode().rstrip("="),
    "base64 in an address": f"s3://bucket/{encoded(f'user:{OPENAI}')}",
    "base64 twice": encoded(encoded(OPENAI)),
    "hex": OPENAI.encode().hex(),
    "URL-encoded": "".join(f"%{ord(letter):02X}" for letter in OPENAI),
    "URL-encoded address": quote("https://someone:hunter2@example.org", safe=""),
    "JSON escapes": "".join(f"\\u{ord(letter):04x}" for letter in OPENAI),
    "split over an address": f"https://{OPENAI[:20]}:{OPENAI[20:]}@example.org",
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_refused_and_not_told(name: str) -> None:
    text = FORMS[name]
    for setting in (text, f"trainer:\n  logger: {text}\n", f"# {text}", f"a, '{text}' and more"):
        with pytest.raises(ConfigError, match="what looks like") as caught:
            check_secrets(setting, "config x.yaml")
        assert text[4:12] not in str(caught.value)
        assert str(caught.value).startswith("config x.yaml holds")


def test_an_option_and_its_value_are_seen_together() -> None:
    for words in (["--x.api_key", drawn(32, HEX)], ["--password", "correct-horse"], [f"--key={drawn(40, HEX)}"]):
        with pytest.raises(ConfigError, match=r"argument \d of the command line holds"):
            check_words(["fit", *words])


def test_settings_of_any_source_are_seen_as_they_are_in_the_end() -> None:
    with pytest.raises(ConfigError, match=r"--model\.server\.api_key holds"):
        check_secret_settings({"data.path": "x", "model.server.api_key": drawn(32, HEX)})


@pytest.mark.parametrize("spell", [encoded, lambda v: v.encode().hex(), lambda v: v.upper(), lambda v: quote(v + "/")])
def test_the_value_of_a_variable_in_another_spelling(spell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_TOKEN", "marker-of-mine-12")
    with pytest.raises(ConfigError, match="value of environment variable OWN_TOKEN"):
        check_secrets(f"path: {spell('marker-of-mine-12')}", "config x.yaml")


FINE = [
    f"revision: {drawn(40, HEX)}",
    f"sha256: {drawn(64, HEX)}",
    f"path: /data/models/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/{drawn(40, HEX)}",
    "path: meta-llama/Meta-Llama-3-8B-Instruct",
    "path: hf-internal-testing/tiny-random-LlamaForCausalLM",
    "path: trl-internal-testing/tiny-Qwen2ForCausalLM-2.5",
    "path: sk-learn-models-of-mine-2024/model-00001-of-00004.safetensors",
    "path: runs/dpo-20261127-101112/checkpoints/epoch=3-step=1200.ckpt",
    "api_key_env: OPENAI_API_KEY",
    "api_key_env: MY_ORG_OPENAI_API_KEY_2024",
    "tokenizer: Qwen/Qwen2.5-0.5B-Instruct",
    "pad_token: <|reserved_special_token_250|>",
    "stop: ['<|eot_id|>', '<|im_end|>']",
    "key: model.layers.10.mlp.down_proj",
    "target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]",
    "class_path: lightning.pytorch.callbacks.stochastic_weight_avg.StochasticWeightAveraging",
    "base_url: http://localhost:8000/v1",
    "base_url: https://gateway.example.org:8443/openai/deployments/gpt-4o-2024-08-06",
    "path: s3://bucket/data/2024-10-01/preferences-part-00012.jsonl.gz",
    "path: git@github.com:org/repo.git",
    "prompt: The bearer responsibilities of a password manager: which secret: however it is, should I keep?",
    "tokens: 16384",
    "max_new_tokens: 1024",
    "scales: {helpfulness: [0, 4], verbosity: [0, 4]}",
    "batch: deadbeefdeadbeef0123456789abcdef",
    "a note: the token budget is 8192, the key idea is in arXiv:2305.18290",
    "password: null",
    "template: '{% for message in messages %}{{ message[\"content\"] }}{% endfor %}'",
]


@pytest.mark.parametrize("text", FINE)
def test_what_is_no_key(text: str) -> None:
    check_secrets(text, "config x.yaml")
    check_words(["fit", f"--{text.split(':', maxsplit=1)[0]}", text.partition(": ")[2]])


CONFIGS = sorted(p for p in ROOT.rglob("*.y*ml") if not {".venv", "runs", ".git"} & set(p.relative_to(ROOT).parts))


def test_no_config_of_ours_holds_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(CONFIGS) > 30
    for path in CONFIGS:
        check_secrets(path.read_text(encoding="utf-8"), str(path))


def test_text_that_only_reads_like_settings_is_fine() -> None:
    """The documentation of the repository holds thousands of names, paths, hashes and commands."""
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")]:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if "sk-" not in line and "https://user:" not in line:
                check_secrets(line, f"{path}: {line}")


def test_warnings_are_seen_after_a_command_line_was_searched() -> None:
    """detect-secrets hands all warnings to a logger without a handler when it is imported."""
    code = (
        "import warnings\nfrom align.cli.secret_patterns import key_in\n"
        "assert not key_in('just a long enough word')\nwarnings.warn('seen by the user')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "UserWarning: seen by the user" in done.stderr
