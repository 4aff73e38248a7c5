"""A completion server of the OpenAI kind in a process of its own; it echoes, and fails as it is told to.

`python -m tests.sampling.server FAULTS.json` prints its port; FAULTS.json maps the number of a request to a fault.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

FAULTS: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text()) if __name__ == "__main__" else {}
LOG = Path(sys.argv[1]).with_suffix(".log") if __name__ == "__main__" else Path()
NUMBERS = count()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with LOG.open("a") as file:
            print(json.dumps({"path": self.path, "auth": self.headers.get("Authorization"), **body}), file=file)
        fault = FAULTS.get(str(next(NUMBERS)), FAULTS.get("*"))
        if isinstance(fault, int):
            self.answer(fault, {"error": {"message": "told to fail"}})
        elif fault == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
            self.close_connection = True
        else:
            self.answer(200, self.completion(body, fault))

    def completion(self, body: dict[str, Any], fault: Any) -> dict[str, Any]:
        said = f"seed {body['seed']}"
        text = {"message": {"role": "assistant", "content": said}} if "messages" in body else {"text": said}
        choice = {"index": 0, "finish_reason": "length" if fault == "length" else "stop", "logprobs": None, **text}
        if fault == "stop":
            choice["stop_reason"] = "\n\nHuman:"
        model = "another" if fault == "model" else body["model"] + "-2026"
        choices = [] if fault == "empty" else [choice]
        return {"id": "1", "object": "text_completion", "created": 1, "model": model, "choices": choices}

    def answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
