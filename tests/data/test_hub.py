"""Datasets of the hub: revisions, and what is said of those that may not be read, against a stand-in on the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
ROWS = {
    commit: json.dumps({"prompt": "q", "chosen": f"chosen of {name}", "rejected": "no"}).encode() + b"\n"
    for name, commit in COMMITS.items()
}
SCRIPT = """
import sys
from align.data.preference_file import PreferenceFile
from align.data.drop_report import Report
from align.errors import DataError
for path in sys.argv[1:]:
    source = PreferenceFile(path)
    try:
        print(path, source.fingerprint(), source.read("train", Report())[0].responses[0], sep="|")
    except DataError as error:
        print(path, error, sep="|")
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: one dataset with two revisions, a private and a gated one."""

    protocol_version = "HTTP/1.1"
    codes: ClassVar[dict[str, str]] = {"private": "", "gated": "GatedRepo"}

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/").split("/")
        for name, code in self.codes.items():
            if name in path:
                return self.answer(401, b"{}", {"X-Error-Code": code} if code else {})
        if path[:4] == ["api", "datasets", "own", "pairs"]:
            return self.about(*path[4:])
        if path[:4] == ["datasets", "own", "pairs", "resolve"] and path[5:] == ["train.jsonl"]:
            commit = COMMITS.get(path[4], path[4])
            return self.answer(200, ROWS[commit], {"ETag": f'"{commit}"', "X-Repo-Commit": commit})
        return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def about(self, what: str = "revision", revision: str = "main", *_: str) -> None:
        commit = COMMITS.get(revision, revision)
        if commit not in ROWS:
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        file = {"type": "file", "oid": "1" * 40, "size": len(ROWS[commit]), "path": "train.jsonl"}
        found = [file] if what == "tree" else {"id": "own/pairs", "sha": commit, "siblings": [], "private": False}
        return self.answer(200, json.dumps(found).encode(), {})

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_revisions_and_what_may_not_be_read(endpoint: str, tmp_path: Path) -> None:
    paths = ["own/pairs", "own/pairs@v1", "own/pairs@nope", "own/private", "own/gated"]
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *paths], env=environment, capture_output=True, text=True, check=True, timeout=240
    )
    main, tagged, *refused = [line.split("|") for line in done.stdout.splitlines()]
    assert (main[2], tagged[2]) == ("chosen of main", "chosen of v1")
    assert main[1] != tagged[1]  # so that neither takes the other's tokens from the cache
    assert len(refused) == 3  # one line each
    assert "no revision 'nope' of it" in refused[0][1]
    for path, message in refused:
        assert path in message
        assert "`hf auth login` (or HF_TOKEN)" in message


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_asked_once(endpoint: str, tmp_path: Path) -> None:
    """Six warnings and 24 seconds stood before the one line; what is in the cache is read."""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}

    def run(place: str, *paths: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT, *paths]
        told = {**environment, "HF_ENDPOINT": place}
        return subprocess.run(command, env=told, capture_output=True, text=True, check=True, timeout=240)

    run(endpoint, "own/pairs")
    done = run("http://127.0.0.1:9", "own/pairs", "own/others", "pairs.jsonl", "data/pairs.parquet", "./pairs")
    assert "Retry" not in done.stderr
    cached, other, *paths = [line.split("|") for line in done.stdout.splitlines()]
    assert cached[2] == "chosen of main"
    assert "(the hub does not answer, and it is not in the cache)" in other[1]
    for path, message in paths:
        assert message.startswith(f"data.path {path!r}: no such file or folder in ")


STREAM = """
import sys
from align.data.preference_file import PreferenceFile
from align.data.shards import shards_of
for path in sys.argv[1:]:
    source = PreferenceFile(path)
    source.stream_hub()
    for shard in shards_of(source, "train"):
        print(shard.identity.name, shard.identity.head, [row.row["chosen"] for row in shard.rows()], sep="|")
        assert not list(shard.rows(1))
"""


@pytest.mark.slow
def test_a_revision_is_streamed(endpoint: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", STREAM, "own/pairs", "own/pairs@v1"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    main, tagged = [line.split("|") for line in done.stdout.splitlines()]
    assert (main[2], tagged[2]) == ("['chosen of main']", "['chosen of v1']")
    assert main[0] == f"hf://datasets/own/pairs@{COMMITS['main']}/train.jsonl"
    assert tagged[0] == f"hf://datasets/own/pairs@{COMMITS['v1']}/train.jsonl"
    assert not list(tmp_path.rglob("*.arrow"))
