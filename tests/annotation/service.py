"""The server as a process of its own on a free port, and a client that says exactly what it is told."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from align.annotation.annotation_store import AnnotationStore
from align.annotation.form import Field
from align.annotation.items import QUESTIONS, AnnotationItem, Task

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from align.annotation.listening import Listen
from align.annotation.server_process import serve
from align.annotation.annotation_store import AnnotationStore
serve(AnnotationStore(Path(sys.argv[1])), Listen(port=int(sys.argv[2])), "Read both.")
"""
MARKERS = ("secret-model-one", "secret-model-two")


def pairs(count: int) -> list[AnnotationItem]:
    return [
        AnnotationItem.new([{"role": "user", "content": f"prompt {n}"}], [f"left {n}", f"right {n}!"], MARKERS)
        for n in range(count)
    ]


def fill(
    path: Path,
    items: list[AnnotationItem],
    raters: tuple[str, ...] = ("ann",),
    task: Task = "pairs",
    fields: Sequence[Field] = (),
    labeller: Sequence[Field] = (),
) -> Path:
    store = AnnotationStore(path, create=True)
    store.begin(items, task, QUESTIONS[task], fields, labeller)
    store.add_raters(raters)
    store.close()
    return path


class Service:
    def __init__(self, store: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store), str(port)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert self.process.stdout is not None
        self.links: dict[str, str] = {}
        for line in self.process.stdout:
            if line.startswith("judgments go to"):
                break
            found = re.fullmatch(r"(.+) \(\d+ of \d+ judged\): (\S+)\n", line)
            assert found, line
            self.links[found[1]] = found[2]
        self.port = int(urlsplit(next(iter(self.links.values()))).port or 0)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]

    def client(self, rater: str = "ann") -> Client:
        return Client(self.port, self.links[rater].partition("#")[2])


class Client:
    """Enters by a link; requests are JSON with the headers a browser would send, unless told otherwise."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.cookie, self.path, self.form_token = port, "", "/", ""
        self.traffic = ""
        status, body, headers = self.request("POST", "/enter", {"token": token})
        assert status == 200, body
        (morsel,) = SimpleCookie(headers["set-cookie"]).values()
        self.set_cookie = headers["set-cookie"]
        self.cookie, self.path = f"{morsel.key}={morsel.value}", body["path"]
        self.state = self.get("state")
        self.form_token = self.state["form_token"]

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str | None] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        sent: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie or None}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if method == "POST":
            length = str(len(data))
            sent |= {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
            sent |= {"Content-Length": length, "X-Form-Token": self.form_token}
        sent |= headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        self.traffic += f"{answer.headers}\n{text}\n"
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text, answer.headers

    def get(self, part: str) -> Any:
        status, body, _ = self.request("GET", self.path + part)
        assert status == 200, (status, body)
        return body

    def judge(
        self, item: str, best: int | None, *, key: str, replaces: str | None = None, remarks: Any = None
    ) -> tuple[int, Any]:
        worst = None if best is None else 1 - best
        body = {"item": item, "best": best, "worst": worst, "key": key, "replaces": replaces}
        body |= {} if remarks is None else {"remarks": remarks}
        return self.request("POST", self.path + "judgment", body)[:2]
