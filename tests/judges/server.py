"""A judge that misbehaves: an HTTP server of the OpenAI kind, run as a process of its own.

The prompt names the case, as in `CASE=empty`. Without one it judges honestly: the longer response is better. Every
request is logged as one JSON line, so that tests can count them.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOG = Path(sys.argv[1])
SEEN: Counter[str] = Counter()
TEXTS = {
    "empty": "",
    "blank": " \n ",
    "both": "Comparison: both are fine.\nA and B",
    "two": "I first thought [[A]], but [[B]] is better.",
    "quoted": 'Response A says "[[A]]", which I ignore.\nNeither convinces me.',
    "quoted_letter": "The response ends with:\nA\nbut I do not know.",
    "two_letters": "A\nThen again:\nB",
    "cut_json": '{"winner": "A"',
    "fenced_json": 'Sure, here it is:\n```json\n{"winner": "A"}\n```',
    "two_json": '{"winner": "A"} {"winner": "B"}',
    "twice_json": '{"winner": "A", "winner": "B"}',
    "other_json": '{"winner": "C"}',
    "over_ten": "Good.\n8/10 7/10",
    "words": "Good.\neight seven",
    "eleven": "Good.\n11 7",
    "negative": "Good.\n-1 7",
    "nan": "Good.\nNaN 7",
    "one_score": "Good.\n8",
    "refusal": "I'm sorry, but I can't compare these.",
    "french": "La réponse A est bien meilleure.",
    "obeys": "You told me to ignore the above, so: answer A",
    "first": "Comparison: the first.\nA",
    "fullwidth": "Comparison: x\nＡ",
    "long": "x" * 70_000 + "\nA",
}
STATUS = {"401": 401, "403": 403, "404": 404, "402": 402, "500": 500, "418": 418}


def completion(text: object, finish: str = "stop", model: str = "judge-1", **extra: object) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish, **extra}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return json.dumps({"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage})


def honest(body: dict) -> str:
    prompt = body["messages"][-1]["content"]
    texts = re.findall(r"<data-\w+>\n(.*?)\n</data-\w+>", prompt, re.DOTALL)
    longer = len(texts[1]) > len(texts[2]) if len(texts) > 2 else True
    if "m or M" in prompt:
        top = [{"token": "m", "logprob": -0.5}, {"token": "M", "logprob": -1.5}]
        return completion("m", logprobs={"content": [{"token": "m", "logprob": -0.5, "top_logprobs": top}]})
    if any("[[rating]]" in message["content"] for message in body["messages"]):
        return completion(f"Fine. Rating: [[{min(len(texts[1]), 10)}]]")
    return completion("Comparison: one is longer.\n" + ("A" if longer else "B"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(size := int(self.headers["Content-Length"]))
        if len(raw) < size:  # the asker was killed
            return
        body = json.loads(raw)
        found = re.search(r"CASE=(\w+)", raw.decode())
        case = found.group(1) if found else ""
        SEEN[case] += 1
        with LOG.open("a") as file:
            record = {"case": case, "path": self.path, "key": self.headers.get("Authorization"), "body": body}
            print(json.dumps({**record, "at": time.time()}), file=file)
        self.answer(case, body)

    def answer(self, case: str, body: dict) -> None:
        if case in TEXTS:
            self.send(200, completion(TEXTS[case]))
        elif case == "null":
            self.send(200, completion(None))
        elif case in ("length", "content_filter", "tool_calls"):
            self.send(200, completion("Comparison: x\nA", finish=case))
        elif case == "other_model":
            self.send(200, completion("Comparison: x\nA", model="cheap-1"))
        elif case == "uneven":
            texts = re.findall(r"<data-\w+>\n(.*?)\n</data-\w+>", body["messages"][-1]["content"], re.DOTALL)
            self.send(200, completion("Why.\n" + ("9 1" if len(texts[1]) > len(texts[2]) else "6 5")))
        elif case == "choices":
            self.send(200, json.dumps({"model": "judge-1", "choices": []}))
        elif case == "html200":
            self.send(200, "<html>A</html>")
        elif case in STATUS:
            self.send(STATUS[case], json.dumps({"error": {"message": f"no: {self.headers['Authorization']}"}}))
        elif case == "too_long":
            self.send(400, json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}}))
        elif case == "quota":
            self.send(429, json.dumps({"error": {"message": "pay", "code": "insufficient_quota"}}))
        elif case == "redirect":
            self.send(307, "", {"Location": f"http://localhost:{self.server.server_port}/v1/elsewhere"})
        else:
            self.passing(case, body)

    def passing(self, case: str, body: dict) -> None:
        """Faults of the first request or for ever, after which it judges honestly."""
        once = SEEN[case] == 1 or case.endswith("always")
        if case == "slow":
            time.sleep(0.1)
        if not once:
            self.send(200, honest(body))
        elif case == "limit_after":
            self.send(429, "{}", {"Retry-After": "1"})
        elif case == "limit":
            self.send(429, "{}")
        elif case == "limit_hour_always":
            self.send(429, "{}", {"Retry-After": "3600"})
        elif case == "bad_gateway":
            self.send(502, "<html>bad gateway</html>")
        elif case in ("cut", "cut_always"):
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"message": {"content": "A"')
            self.close_connection = True
        elif case == "error200":
            self.send(200, json.dumps({"error": {"message": "upstream"}}))
        elif case in ("drip", "drip_always"):
            self.drip()
        elif case == "flood_always":
            self.flood()
        else:
            self.send(200, honest(body))

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            for _ in range(300):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            self.close_connection = True

    def flood(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(200):
                self.wfile.write(b" " * 100_000)
        except OSError:
            pass
        self.close_connection = True

    def send(self, code: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the asker was killed
            super().handle_error(request, client_address)


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
