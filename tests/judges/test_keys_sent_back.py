"""A key that a server sends back, in any spelling, is kept nowhere."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from align.errors import AlignError, ConfigError
from align.judges.endpoint import Budget
from align.judges.verdict_store import VerdictStore
from align.sampling.service_key import LONG, KeySpellings, read_key
from align.sampling.wire import RetryPolicy
from tests.judges.conftest import KEY, ask, judge
from tests.judges.raw import as_json, completion, raw_server, response, sends
from tests.judges.test_any_reply import VERDICT


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def spelled(key: str) -> dict[str, str]:
    data = key.encode()
    return {
        "plain": key,
        "upper": key.upper(),
        "lower": key.lower(),
        "reversed": key[::-1],
        "base64": base64.b64encode(data).decode(),
        "base64 of a header": base64.b64encode(b"Bearer " + data).decode(),
        "base64 of basic": base64.b64encode(b"user:" + data).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(b"x" + data).decode().rstrip("="),
        "base64 in lines": "\\n".join(base64.encodebytes(data * 4).decode().split()),
        "base32": base64.b32encode(data).decode(),
        "hex": data.hex(),
        "upper hex": data.hex().upper(),
        "url": quote(key, safe=""),
        "url, all": "".join(f"%{byte:02X}" for byte in data),
        "url, twice": "".join(f"%25{byte:02x}" for byte in data),
        "json": "".join(f"\\u{byte:04x}" for byte in data),
        "json, upper": "".join(f"\\u{byte:04X}" for byte in data),
        "json, twice": "".join(f"\\\\u{byte:04x}" for byte in data),
        "json, partly": "".join(f"\\u{byte:04x}" if n % 3 else chr(byte) for n, byte in enumerate(data)),
        "bytes": "".join(f"\\\\x{byte:02x}" for byte in data),
        "html": "".join(f"&#{byte};" for byte in data),
        "html, hex": "".join(f"&#x{byte:x};" for byte in data),
        "mail": "".join(f"={byte:02X}" for byte in data),
        "spaced": " ".join(key),
        "in lines": "\\n".join(key[n : n + 8] for n in range(0, len(key), 8)),
        "in a URL": f"https://user:{key}@host/?api_key={key}",
    }


SPELLED = spelled(KEY)


@pytest.mark.parametrize("key", [KEY, "hf_AbCdEfGh/+=&<1234567890", "ZmFrZS1rZXk6MDEyMzQ1Njc4OQ=="])
def test_every_spelling_of_a_key_is_taken_out(key: str) -> None:
    for name, text in spelled(key).items():
        assert len(KeySpellings(key).removed(f"before {text} after")) < 45 + len("https://user:@host/?api_key="), name
    assert KeySpellings(key).removed("nothing of it") == "nothing of it"
    assert KeySpellings("EMPTY").removed("an empty reply, EMPTY") == "an empty reply, [key]"


@pytest.mark.parametrize("filler", ["\\", "%25", "&amp;", "a", "=3D", f"{KEY[:-1]}!", "%2525"])
def test_a_long_body_is_searched_in_time(filler: str) -> None:
    begin = time.process_time()
    padding = filler * (1_000_000 // len(filler))
    assert KeySpellings(KEY).removed(padding) == padding
    assert time.process_time() - begin < 10
    for name in ("plain", "json, twice", "base64 of basic", "html", "in lines"):
        text = SPELLED[name]
        assert "[key]" in KeySpellings(KEY).removed(f"{filler * (LONG // len(filler))} {text}"), name


@pytest.mark.parametrize("name", SPELLED)
def test_a_key_that_is_sent_back_is_kept_nowhere(name: str, tmp_path: Path) -> None:
    """In the store, in what a verdict keeps, in the message of a refusal, whatever the status."""
    text = SPELLED[name]
    decoded = {text, text.replace("\\n", "\n"), text.replace("\\\\", "\\"), KEY}
    body = as_json(completion("TEXT", model="judge-1 TEXT")).replace(b"TEXT", text.encode())
    with raw_server(sends(response(body))) as raw:
        one = judge(raw, repeats=0)  # type: ignore[arg-type]
        ask(one, "a")
        told = str(one.report())
    error = b'{"error": {"message": "TEXT", "code": "TEXT"}}'.replace(b"TEXT", text.encode())
    for status in ("401 no", "200 OK", "503 no", "400 no", "302 no"):
        with raw_server(sends(response(error, status=status))) as raw, pytest.raises(AlignError) as caught:
            ask(judge(raw, repeats=0, concurrency=1, patience=RetryPolicy(0.2, 0.3)), "b")  # type: ignore[arg-type]
        told += str(caught.value)
    for form in decoded:
        assert form not in told
        assert not [p for p in tmp_path.rglob("*") if p.is_file() and form.encode() in p.read_bytes()]


def test_keys_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("schlüssel", "two\nlines"):
        monkeypatch.setenv("JUDGE_KEY", value)
        with pytest.raises(ConfigError, match="characters that no key has"):
            read_key("JUDGE_KEY", "judge")


def test_the_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "judge.sqlite")
    store.reserve("a", 9, max_requests=None, max_tokens=None)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.glob("judge.sqlite*")} == {0o600}
    store.close()
    with raw_server(sends(response(as_json(VERDICT)))) as raw:
        ask(judge(raw, repeats=0, budget=Budget(requests=5)), "a")  # type: ignore[arg-type]
