"""The pages and the few requests they make. Names of models stay on this side."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from align.annotation.access import Access, same
from align.annotation.annotation_store import AnnotationStore, Conflict, Rater, Shown
from align.annotation.form import by_place
from align.annotation.guard import Guard
from align.annotation.items import Choice
from align.annotation.labellers import AnsweredOtherwise
from align.errors import StoreError

PAGES = Path(__file__).parent / "page"
COOKIE = "align_session"
KEY = re.compile(r"[A-Za-z0-9-]{16,64}")


def application(store: AnnotationStore, access: Access, origins: Collection[str], guidelines: str = "") -> Starlette:
    """Return the application: an entrance, and under `/r/ID/` a page for each rater, whose cookie is valid only there.

    So two raters may share a browser, and two tabs of one rater share a session.
    """
    desk = Desk(store, access, guidelines)
    routes = [
        Route("/", _entrance),
        Route("/enter", desk.enter, methods=["POST"]),
        Route("/r/{rater}/", desk.page),
        Route("/r/{rater}/state", desk.state),
        Route("/r/{rater}/labeller", desk.answer, methods=["POST"]),
        Route("/r/{rater}/item/{item}", desk.item),
        Route("/r/{rater}/judgment", desk.judge, methods=["POST"]),
        Mount("/static", StaticFiles(directory=PAGES / "static")),
    ]
    handlers: dict[Any, Any] = {HTTPException: _told, StoreError: _not_stored}
    return Starlette(routes=routes, middleware=[Middleware(Guard, origins=origins)], exception_handlers=handlers)


class Desk:
    """Answers the requests of raters."""

    def __init__(self, store: AnnotationStore, access: Access, guidelines: str) -> None:
        """Take where judgments go, who may send them, and what raters are told."""
        self.store, self.access, self.guidelines = store, access, guidelines

    async def enter(self, request: Request) -> Response:
        """Exchange the token of a link for a cookie."""
        token = (await _body(request)).get("token")
        rater = self.access.enter(token) if isinstance(token, str) else None
        if rater is None:
            raise HTTPException(403, "this link is not valid: open the link that was printed for you")
        path = f"/r/{rater.id}/"
        response = JSONResponse({"path": path})
        secure = request.headers["origin"].startswith("https:")
        session = self.access.session(rater)
        response.set_cookie(COOKIE, session, path=path, httponly=True, samesite="strict", secure=secure)
        return response

    async def page(self, request: Request) -> Response:
        """Serve the page; without a valid cookie, the entrance."""
        known = self.access.rater(request.path_params["rater"], request.cookies.get(COOKIE, ""))
        return await _entrance(request) if known is None else FileResponse(PAGES / "judge.html")

    async def state(self, request: Request) -> Response:
        """Return what is asked and what this rater has done."""
        rater = self._rater(request)
        progress = await run_in_threadpool(self.store.progress, rater.id)
        about = self.store.labellers.questions() if self.store.labellers.asked(rater.id) else ()
        return JSONResponse(
            {
                "rater": rater.name,
                "task": self.store.setting("task"),
                "question": self.store.setting("question"),
                "fields": [vars(field) for field in self.store.fields()],
                "labeller": [vars(field) for field in about],
                "guidelines": self.guidelines,
                "form_token": self.access.form_token(rater),
                "items": [{"id": item, "judged": judged} for item, judged in progress],
            }
        )

    async def item(self, request: Request) -> Response:
        """Return an item in the rater's order."""
        rater = self._rater(request)
        shown = await run_in_threadpool(self.store.show, rater.id, request.path_params["item"])
        if shown is None:
            raise HTTPException(404, "no such item")
        return JSONResponse(_seen(shown))

    async def answer(self, request: Request) -> Response:
        """Keep what a rater says about themselves, which is asked once."""
        rater, body = await self._form(request)
        try:
            await run_in_threadpool(self.store.labellers.answer, rater.id, body.get("answers"))
        except AnsweredOtherwise:
            raise HTTPException(409, "these questions were answered in another tab: nothing was changed") from None
        except ValueError as error:
            if isinstance(error, StoreError):
                raise
            raise HTTPException(422, str(error)) from error
        return JSONResponse({"saved": True})

    async def judge(self, request: Request) -> Response:
        """Keep a judgment; the answer says that it is committed."""
        rater, body = await self._form(request)
        if self.store.labellers.asked(rater.id):
            raise HTTPException(409, "first answer the questions about yourself: load the page again")
        try:
            submit = _submission(body)
            await run_in_threadpool(partial(self.store.submit, rater.id, **submit))
        except Conflict:
            raise HTTPException(409, "this item was judged in another tab: nothing was changed") from None
        except ValueError as error:
            if isinstance(error, StoreError):
                raise
            raise HTTPException(422, str(error)) from error
        return JSONResponse({"saved": submit["key"]})

    async def _form(self, request: Request) -> tuple[Rater, dict[str, Any]]:
        """Return who sends a form of this page, and what it says."""
        rater = self._rater(request)
        if not same(request.headers.get("x-form-token", ""), self.access.form_token(rater)):
            raise HTTPException(403, "the page is out of date: load it again")
        return rater, await _body(request)

    def _rater(self, request: Request) -> Rater:
        rater = self.access.rater(request.path_params["rater"], request.cookies.get(COOKIE, ""))
        if rater is None:
            raise HTTPException(401, "open the link that was printed for you")
        return rater


def _seen(shown: Shown) -> dict[str, Any]:
    """Return what the browser gets: texts by place, and nothing about where they come from."""
    places = [None if i is None else shown.order.index(i) for i in shown.choice or ()]
    remarks = {"remarks": by_place(shown.remarks, shown.order)} if shown.remarks else {}
    judgment = {"key": shown.key, "best": places[0], "worst": places[1], **remarks} if places else None
    responses = [shown.item.responses[i] for i in shown.order]
    return {"id": shown.item.id, "prompt": shown.item.prompt, "responses": responses, "judgment": judgment}


def _submission(body: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `submit`. Raises ValueError for a body that is not a judgment."""
    expected = {"item", "best", "worst", "key", "replaces"}
    if set(body) - {"remarks"} != expected:
        raise ValueError(f"expected {', '.join(sorted(expected))}")
    key, replaces = body["key"], body["replaces"]
    if not isinstance(body["item"], str) or not (isinstance(key, str) and KEY.fullmatch(key)):
        raise ValueError("item and key must be texts, the key of 16 to 64 letters, digits and dashes")
    if not isinstance(replaces, str | None):
        raise ValueError("replaces must be a key or null")
    choice = Choice(body["best"], body["worst"])
    return {"item": body["item"], "choice": choice, "key": key, "replaces": replaces, "remarks": body.get("remarks")}


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not an object")
    return body


async def _entrance(request: Request) -> Response:
    return FileResponse(PAGES / "enter.html", 200 if request.url.path == "/" else 401)


async def _told(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)


async def _not_stored(_: Request, error: StoreError) -> Response:
    print(f"align annotate: {error}", file=sys.stderr)
    return JSONResponse({"error": "not saved: the store of the server has a fault"}, 503)
