"""A server in a thread of the test that sends bytes as it is told: whole, slowly, or wrongly."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Script = Callable[[socket.socket, dict[str, str]], None]
"""Answers one request, whose headers it is given, on a socket that is closed afterwards."""


class Raw:
    """What it was asked, and where it listens."""

    def __init__(self, script: Script) -> None:
        self.script, self.asked = script, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self.socket.accept()
                threading.Thread(target=self.answer, args=(accepted,), daemon=True).start()

    def answer(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError), accepted.makefile("rb") as reader:
            reader.readline()
            lines = iter(lambda: reader.readline().decode().strip(), "")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if "content-length" in headers:  # the asker may have gone away
                reader.read(int(headers["content-length"]))
                self.asked += 1
                self.script(accepted, headers)


@contextmanager
def raw_server(script: Script) -> Iterator[Raw]:
    raw = Raw(script)
    threading.Thread(target=raw.serve, daemon=True).start()
    yield raw
    raw.socket.shutdown(socket.SHUT_RDWR)
    raw.socket.close()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def sends(data: bytes) -> Script:
    return lambda accepted, _: accepted.sendall(data)


def completion(content: Any, finish: Any = "stop", model: Any = "judge-1", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish, **more}
    return {"model": model, "choices": [choice]}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
