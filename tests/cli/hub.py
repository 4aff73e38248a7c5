"""A stand-in for the Hugging Face hub on the loopback: what `create_repo` and `upload_folder` ask of it, kept in memory.

A repository whose name ends in `-NNN` answers everything but its creation with that status, and echoes the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "standin" * 5
LARGE = (".safetensors", ".parquet")


@dataclass
class Repository:
    kind: str
    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})


@dataclass
class Hub:
    """What was asked, and what is there."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class Refused(Exception):
    pass


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        try:
            status, content = self._handle(self.path.split("?")[0], body)
        except Refused as error:
            status, content = int(str(error)), {"error": f"no: {self.headers.get('authorization')}"}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self, path: str, body: bytes) -> tuple[int, Any]:  # noqa: PLR0911  one for each question
        hub = self.hub
        if path.startswith("/objects/"):
            assert hashlib.sha256(body).hexdigest() == path.rsplit("/", 1)[1]
            hub.objects[path.rsplit("/", 1)[1]] = body
            return 200, {}
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401)
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/(?:datasets/)?(.+)\.git/info/lfs/objects/batch", path):
            self._check(found[1])
            upload = {"upload": {"href": ""}}
            objects = [
                {**o, "actions": {"upload": {**upload["upload"], "href": f"{hub.url}/objects/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        parts = re.fullmatch(r"/api/(model|dataset)s/(.+?)(?:/(preupload|commit|branch|revision)/(.+))?", path)
        assert parts, path
        _, name, what, branch = parts.groups()
        self._check(name)
        repository = hub.repositories[name]
        if what in (None, "revision"):
            return 200, {"id": name, "sha": "0" * 40, "private": repository.private, "siblings": [], "tags": []}
        if what == "branch":
            return (409, {}) if branch in repository.branches else (200, repository.branches.setdefault(branch, {}))
        if branch not in repository.branches:
            raise Refused(404)
        if what == "preupload":
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.branches[branch][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.branches[branch][value["path"]] = hub.objects[value["oid"]]
        return 200, {
            "commitUrl": f"{hub.url}/{name}/commit/1",
            "commitOid": "1" * 40,
            "hookOutput": "",
            "success": True,
        }

    def _check(self, name: str) -> None:
        if status := re.search(r"-(\d{3})$", name):
            raise Refused(int(status[1]))
        if name not in self.hub.repositories:
            raise Refused(404)

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = f"{self.hub.url}/{'datasets/' if wanted.get('type') == 'dataset' else ''}{name}"
        if name.endswith("create-403"):
            raise Refused(403)
        if name in self.hub.repositories:
            return 409, {"error": "You already created this model repo", "url": url}
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.repositories[name] = Repository(wanted.get("type") or "model", bool(private))
        return 200, {"url": url, "name": name}


def start() -> tuple[Hub, ThreadingHTTPServer]:
    """Start a hub without repositories."""
    hub = Hub()
    handler = type("Handler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server
