"""What tests of the page share: a service in a folder of its own, what it stored, and what the browser complains of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from align.annotation.annotation_store import AnnotationStore, RaterJudgment
from align.annotation.form import Field
from align.annotation.items import AnnotationItem
from tests.annotation.browser import Browser, Tab
from tests.annotation.service import Service, fill

SHOWN = "!document.getElementById('work').hidden"


TEXTS = "[...document.querySelectorAll('#responses .text')].map((node) => node.textContent)"


SETTLED = 0.32  # seconds before the page takes a judgment of an item it has just shown


def served(
    serving: list[Service], items: list[AnnotationItem], *raters: str, task: str = "pairs", fields: Sequence[Field] = ()
) -> Service:
    serving.append(Service(fill(Path("a.sqlite"), items, raters or ("ann",), task, fields)))
    return serving[-1]


def kept() -> list[RaterJudgment]:
    store = AnnotationStore(Path("a.sqlite"))
    found = store.judgments()
    store.close()
    return found


def stored() -> list[AnnotationItem]:
    store = AnnotationStore(Path("a.sqlite"))
    found = store.items()
    store.close()
    return found


def ready(tab: Tab, item: int, pause: float = SETTLED) -> list[str]:
    """Wait until the item is shown and can be judged; return its responses by place."""
    tab.wait(f"{SHOWN} && document.getElementById('where').textContent.startsWith('Item {item} of')")
    time.sleep(pause)
    return tab.js(TEXTS)


def complaints(browser: Browser) -> list[dict]:
    """What the console and the network tell since the last question."""
    kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    found = [event for event in browser.events if event["method"] in kinds]
    browser.events.clear()
    return found
