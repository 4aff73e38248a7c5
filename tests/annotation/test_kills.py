"""kill -9 of the server while raters submit, double clicks included: what was acknowledged is stored, once.

Ratings go with the choice: a kill never leaves one without the other.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from align.annotation.annotation_store import AnnotationStore, RaterJudgment
from align.annotation.form import Field, RatingScale
from tests.annotation.service import Client, Service, fill, pairs

GONE = (OSError, http.client.HTTPException)


def judge_all(client: Client, said: dict[str, int], ended: threading.Event) -> None:
    """One rater: judges every item, sends each judgment twice, and repeats the same request while nobody answers."""
    draw = random.Random(0)
    try:
        for item in [row["id"] for row in client.state["items"]]:
            judge_one(client, item, draw.randrange(2), said, ended)
    finally:
        ended.set()


def judge_one(client: Client, item: str, best: int, said: dict[str, int], ended: threading.Event) -> None:
    key = str(uuid4())
    todo = ["show", "judge", "judge"]
    while todo and not ended.is_set():
        try:
            if todo[0] == "show":
                order = client.get(f"item/{item}")["responses"]
            else:
                rated = {"rating": [7 - best, 6 + best], "harm": [None, "yes"]}
                assert client.judge(item, best, key=key, remarks=rated) == (200, {"saved": key})
                said[item] = 0 if order[best].startswith("left") else 1
            todo.pop(0)
        except GONE:
            time.sleep(0.02)


def whole(judged: RaterJudgment) -> bool:
    """Return whether the ratings are there, by response: 7 and 6 of what the rater saw first and second."""
    best = judged.order.index(judged.choice.best)
    by_place = [judged.remarks["rating"][n] for n in judged.order]
    return by_place == [7 - best, 6 + best] and judged.remarks["harm"][judged.order[1]] == "yes"


@pytest.mark.parametrize(("submits", "kills"), [(60, 5), pytest.param(1000, 100, marks=pytest.mark.slow)])
def test_acknowledged_is_stored(tmp_path: Path, submits: int, kills: int) -> None:
    path = fill(tmp_path / "a.sqlite", pairs(submits), fields=(RatingScale().field(), Field("harm", "Harmful?")))
    service = Service(path)
    links, port = service.links, service.port
    said: dict[str, int] = {}
    ended = threading.Event()
    rater = threading.Thread(target=judge_all, args=(service.client(), said, ended))
    rater.start()
    draw, done = random.Random(1), 0
    try:
        while done < kills and not ended.is_set():
            goal = (done + 1) * submits // (kills + 1)
            while len(said) < goal and not ended.is_set():
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.01))
            service.kill()
            done += 1
            acknowledged = dict(said)
            store = AnnotationStore(path)
            kept = {j.item: j.choice.best for j in store.judgments()}
            assert all(whole(j) for j in store.judgments())
            store.close()
            assert acknowledged.items() <= kept.items()
            service = Service(path, port)
            assert service.links == links  # an open page goes on
        assert ended.wait(120)
    finally:
        ended.set()
        rater.join()
        service.kill()
    store = AnnotationStore(path)
    kept = [(j.item, j.choice.best) for j in store.judgments()]
    assert done == kills
    assert len(kept) == len(said) == submits
    assert dict(kept) == said
    assert store._db.read("SELECT count(*) FROM submission") == [(submits,)]
    assert store._db.read("SELECT count(*) FROM remark") == [(submits,)]
