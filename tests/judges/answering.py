"""A server of the OpenAI kind in a thread of the test: it answers as a function of the prompt says, or is down."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any] | str]
"""From the body of a request to the text of a reply, or to fields of its choice."""


class Answering:
    """What it was asked; after `last` replies it is down."""

    def __init__(self, answer: Answer, last: int | None = None) -> None:
        self.answer, self.last = answer, last
        self.bodies: list[dict[str, Any]] = []
        self.replied = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.last is not None and outer.replied >= outer.last:
                    self.send_response(503)
                    self.end_headers()
                    return
                outer.replied += 1
                outer.bodies.append(body)
                found = outer.answer(body)
                fields = found if isinstance(found, dict) else {"message": {"content": found}, "finish_reason": "stop"}
                data = json.dumps({"model": "judge-1", "choices": [fields]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def answering(answer: Answer, last: int | None = None) -> Iterator[Answering]:
    one = Answering(answer, last)
    threading.Thread(target=one.server.serve_forever, daemon=True).start()
    yield one
    one.server.shutdown()
    one.server.server_close()
