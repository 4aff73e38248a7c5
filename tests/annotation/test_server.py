"""The server over real HTTP: what it refuses, what it never says, and two tabs and two raters at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tests.annotation.service import MARKERS, Client, Service

LIMIT = 64 * 1024


def key() -> str:
    return str(uuid4())


@pytest.fixture
def ann(service: Service) -> Client:
    return service.client("ann")


def opened(client: Client, number: int) -> dict:
    """The item of that number, shown."""
    return client.get(f"item/{client.state['items'][number]['id']}")


@pytest.mark.injection
class TestAccess:
    def test_entrance_says_nothing(self, ann: Client) -> None:
        ann.cookie = ""
        status, text, _ = ann.request("GET", "/")
        assert status == 200
        assert "prompt" not in text
        for part in ("", "state", "item/x"):
            status, text, _ = ann.request("GET", ann.path + part)
            assert status == 401
            assert "prompt 0" not in str(text)
        assert ann.request("POST", ann.path + "judgment", {})[0] == 401

    @pytest.mark.parametrize("token", ["", "x", "é" * 64, "\ud800", 1, None, ["a"], {"a": 1}])
    def test_wrong_tokens(self, ann: Client, token: object) -> None:
        status, body, headers = ann.request("POST", "/enter", {"token": token})
        assert (status, headers["set-cookie"]) == (403, None)
        assert "not valid" in body["error"]

    def test_cookie_is_for_one_rater_only(self, service: Service, ann: Client) -> None:
        bob = service.client("bob")
        assert ann.path != bob.path
        for words in ("HttpOnly", "SameSite=strict", f"Path={ann.path}"):
            assert words in ann.set_cookie
        assert ann.request("GET", bob.path + "state")[0] == 401
        assert ann.state["form_token"] != bob.state["form_token"]
        ann.cookie = "align_session=é"
        assert ann.request("GET", ann.path + "state", headers={"Cookie": "align_session=xyz"})[0] == 401

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "", None, "evil.example:{port}"])
    def test_other_hosts(self, ann: Client, host: str | None) -> None:
        named = host if host is None else host.format(port=ann.port)
        status, text, _ = ann.request("GET", ann.path + "state", headers={"Host": named})
        assert status == (400 if host is None else 421)
        assert "prompt" not in str(text)

    def test_own_names(self, ann: Client) -> None:
        for host in ("localhost", "[::1]"):
            assert ann.request("GET", "/", headers={"Host": f"{host}:{ann.port}"})[0] == 200

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "", "http://127.0.0.1:1", "https://{own}"])
    def test_other_origins(self, ann: Client, origin: str | None) -> None:
        item = opened(ann, 0)["id"]
        value = origin if origin is None else origin.format(own=f"127.0.0.1:{ann.port}")
        body = {"item": item, "best": 0, "worst": 1, "key": key(), "replaces": None}
        for path in ("/enter", ann.path + "judgment"):
            assert ann.request("POST", path, body, {"Origin": value})[0] == 403
        assert opened(ann, 0)["judgment"] is None

    def test_form_token(self, service: Service, ann: Client) -> None:
        item = opened(ann, 0)["id"]
        for token in ("", "x", service.client("bob").form_token):
            ann.form_token = token
            assert ann.judge(item, 0, key=key())[0] == 403
        assert opened(ann, 0)["judgment"] is None

    def test_headers_everywhere(self, ann: Client) -> None:
        answers = [("GET", path) for path in ("/", "/static/page.css", "/nowhere", ann.path, ann.path + "state")]
        for method, path in [*answers, ("POST", "/enter"), ("OPTIONS", "/"), ("PUT", "/")]:
            headers = ann.request(method, path)[2]
            policy = headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; " in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert not [name for name in headers if name.lower().startswith("access-control")]
            assert "server" not in headers

    def test_pages_have_no_inline_code_and_no_foreign_addresses(self) -> None:
        pages = Path(__file__).parents[2] / "align" / "annotation" / "page"
        files = [path for path in pages.rglob("*.*") if path.suffix != ".svg"]
        assert len(files) == 9
        for path in files:
            text = path.read_text()
            assert "//" not in text.replace("// ", "")
            for word in ("style=", "onclick", "<style", "innerHTML", "eval(", "javascript:"):
                assert word not in text
            assert text.count("<script") == text.count('<script type="module" src="/static/')

    def test_no_way_out_of_the_static_folder(self, ann: Client) -> None:
        for path in ("../judge.html", "..%2fjudge.html", "%2e%2e/judge.html", "....//judge.html", "/etc/passwd"):
            assert ann.request("GET", f"/static/{path}")[0] == 404


@pytest.mark.injection
class TestBodies:
    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            (b"{", {}, 400),
            (b"[]", {}, 400),
            (b"\xff\xfe", {}, 400),
            (b"[" * 60_000, {}, 400),
            (b"{}", {"Content-Type": "text/plain"}, 415),
            (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
            (b"{}", {"Content-Type": None}, 415),
            (b"{}", {"Content-Length": None, "Transfer-Encoding": "chunked"}, 411),
            (b"", {"Content-Length": str(LIMIT + 1)}, 413),
            (b"", {"Content-Length": "9" * 18}, 413),
        ],
    )
    def test_refused(self, ann: Client, body: bytes, headers: dict, status: int) -> None:
        assert ann.request("POST", ann.path + "judgment", body, headers)[0] == status

    def test_largest(self, ann: Client) -> None:
        body = json.dumps({"token": ""}).encode()
        assert ann.request("POST", "/enter", body + b" " * (LIMIT - len(body)))[0] == 403
        assert ann.request("POST", "/enter", body + b" " * (LIMIT + 1 - len(body)))[0] == 413

    @pytest.mark.parametrize(
        "change",
        [
            {"best": 2},
            {"best": True, "worst": False},
            {"best": 0, "worst": None},
            {"best": "0"},
            {"best": [0]},
            {"key": "short"},
            {"key": "x" * 65},
            {"key": "'; DROP TABLE item; --"},
            {"key": 5},
            {"replaces": 5},
            {"item": 5},
            {"item": "' OR 1=1 --"},
            {"more": 1},
        ],
    )
    def test_what_is_no_judgment(self, ann: Client, change: dict) -> None:
        item = opened(ann, 1)["id"]
        body = {"item": item, "best": 0, "worst": 1, "key": key(), "replaces": None, **change}
        status, answer, _ = ann.request("POST", ann.path + "judgment", body)
        assert status == 422
        assert answer["error"]
        assert opened(ann, 1)["judgment"] is None


class TestJudging:
    def test_blind(self, ann: Client) -> None:
        """Every byte the server sends, pages and headers included, is free of names and the same for both sides."""
        for path in ("/", ann.path, "/static/judge.js", "/static/view.js", "/static/keys.js", "/static/api.js"):
            ann.request("GET", path)
        for number in range(30):
            item = opened(ann, number)
            assert set(item) == {"id", "prompt", "responses", "judgment"}
        assert "left 7" in ann.traffic
        assert not [marker for marker in MARKERS if marker in ann.traffic]

    def test_ids_cannot_be_guessed(self, ann: Client) -> None:
        ids = [item["id"] for item in ann.state["items"]]
        assert len({i[:4] for i in ids}) > 25
        assert min(map(len, ids)) == 16

    def test_judged_changed_and_seen_again(self, service: Service, ann: Client) -> None:
        item = opened(ann, 2)
        first, second = key(), key()
        assert ann.judge(item["id"], 1, key=first) == (200, {"saved": first})
        assert opened(service.client("ann"), 2)["judgment"] == {"key": first, "best": 1, "worst": 0}
        assert ann.judge(item["id"], None, key=second, replaces=first)[0] == 200
        again = service.client("ann")
        assert opened(again, 2) == {**item, "judgment": {"key": second, "best": None, "worst": None}}
        assert [i["judged"] for i in again.state["items"]].count(True) >= 1

    def test_two_tabs_of_one_rater(self, service: Service, ann: Client) -> None:
        other = service.client("ann")
        item = opened(ann, 3)
        assert opened(other, 3) == item
        assert ann.judge(item["id"], 0, key="tab-one-tab-one-tab-one")[0] == 200
        status, answer = other.judge(item["id"], 1, key=key())
        assert (status, answer["error"]) == (409, "this item was judged in another tab: nothing was changed")
        assert opened(other, 3)["judgment"] == {"key": "tab-one-tab-one-tab-one", "best": 0, "worst": 1}

    def test_a_storm_of_double_clicks(self, ann: Client, service: Service) -> None:
        """Eight threads send the same two keys over and over: one of them is stored, the other refused, every time."""
        item, keys = opened(ann, 4)["id"], [key(), key()]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: (n % 2, ann.judge(item, n % 2, key=keys[n % 2])[0]), range(24)))
        kept = opened(ann, 4)["judgment"]["best"]
        assert set(found) == {(kept, 200), (1 - kept, 409)}

    def test_raters_do_not_see_each_other(self, service: Service, ann: Client) -> None:
        bob = service.client("bob")
        item = opened(ann, 5)["id"]
        before = opened(bob, 5)
        assert ann.judge(item, 0, key=key())[0] == 200
        assert opened(bob, 5) == before
        assert bob.judge(item, 1, key=key())[0] == 200
        assert "ann" not in json.dumps(bob.state)
