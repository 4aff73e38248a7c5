"""The page in a real headless Chromium: judged by mouse and keys, hostile text inert, two tabs, a killed server."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from align.annotation.annotation_store import AnnotationStore
from align.annotation.items import AnnotationItem, Choice
from tests.annotation.browser import Browser, program
from tests.annotation.browsing import complaints, kept, ready, served
from tests.annotation.service import MARKERS, Service, pairs

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium here")

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg onload=window.pwned=1>",
    "</textarea></pre></div><iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "<a href='javascript:window.pwned=1'>x</a> [x](javascript:window.pwned=1) ![x](http://evil.example/x.png)",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1}",
    "<style>* { display: none !important }</style><meta http-equiv=refresh content='0;url=http://evil.example'>",
    "\u202e\u2066right to left\u2069 \u200b\ufeff zero width <b>bold</b> &lt;b&gt; \u2028 \u0007",
]


def test_judged_by_keys_and_mouse(browser: Browser, serving: list[Service], tmp_path: Path) -> None:
    service = served(serving, pairs(4))
    browser.events.clear()
    tab = browser.tab(service.links["ann"])
    said: dict[str, str | None] = {}
    for number, (act, place) in enumerate(
        [(lambda: tab.press("1"), 0), (lambda: tab.press("b"), 1), (lambda: tab.press("t"), None)], 1
    ):
        shown = ready(tab, number)
        act()
        said[shown[0].split()[1].strip("!")] = None if place is None else shown[place]
    shown = ready(tab, 4)
    tab.click("#choices button:last-child", count=2)  # a double click
    said[shown[0].split()[1].strip("!")] = shown[1]
    tab.wait("!document.getElementById('done').hidden")
    assert tab.js("document.getElementById('count').textContent") == "4 of 4 judged"
    store = AnnotationStore(Path("a.sqlite"))
    texts = {item.id: item.responses for item in store.items()}
    numbers = {item.id: item.prompt[0]["content"].split()[1] for item in store.items()}
    for judged in kept():
        best = judged.choice.best
        assert said[numbers[judged.item]] == (None if best is None else texts[judged.item][best])
    assert len(kept()) == 4
    assert "#" not in tab.js("location.href")
    assert complaints(browser) == []

    tab.click("#review")  # a change of mind
    ready(tab, 1)
    pressed = "[...document.querySelectorAll('#choices [aria-pressed=true]')].map((node) => node.textContent)"
    assert tab.js(pressed) == ["A is better1"]
    tab.press("0")
    tab.wait("!document.getElementById('done').hidden")
    assert kept()[0].choice == Choice(None, None)
    tab.command("Page.reload")
    tab.wait("!document.getElementById('done').hidden")


def test_second_half_of_a_double_click_hits_nothing(browser: Browser, serving: list[Service]) -> None:
    """The next item is there within a few milliseconds: neither a second click, a held key, nor a quick one judges it."""
    tab = browser.tab(served(serving, pairs(5)).links["ann"])
    ready(tab, 1)
    tab.js("document.querySelector('#choices button').click(); document.querySelector('#choices button').click()")
    tab.wait("document.getElementById('where').textContent.startsWith('Item 2')")
    tab.press("1")
    ready(tab, 2)
    for _ in range(2):
        tab.command("Input.dispatchKeyEvent", type="rawKeyDown", key="1", code="Digit1", autoRepeat=True)
    time.sleep(0.1)
    assert len(kept()) == 1


def test_best_and_worst(browser: Browser, serving: list[Service]) -> None:
    prompt = [{"role": "user", "content": "p"}]
    items = [AnnotationItem.new(prompt, [f"{letter}{n}" for letter in "wxyz"], "abcd") for n in range(3)]
    tab = browser.tab(served(serving, items, task="best_worst").links["ann"])
    first = ready(tab, 1)
    tab.press("3")
    tab.press("2", shift=True)
    tab.press("Enter")
    second = ready(tab, 2)
    assert tab.js("document.getElementById('save').disabled")
    tab.click("label.pick.best")
    tab.click("article:nth-child(4) label.pick.worst")
    tab.click("article:nth-child(1) label.pick.worst")  # A cannot be both
    assert tab.js("document.getElementById('save').disabled")
    tab.click("article:nth-child(2) label.pick.best")
    tab.click("#save")
    ready(tab, 3)
    tab.press("0")
    tab.wait("!document.getElementById('done').hidden")
    texts = [tuple(item.responses) for item in items]
    found = [j.choice for j in kept()]
    assert found[0] == Choice(texts[0].index(first[2]), texts[0].index(first[1]))
    assert found[1] == Choice(texts[1].index(second[1]), texts[1].index(second[0]))
    assert found[2] == Choice(None, None)


def test_hostile_text_is_text(browser: Browser, serving: list[Service]) -> None:
    items = [
        AnnotationItem.new(
            [{"role": "user", "content": t}, {"role": "assistant", "content": t}, {"role": "user", "content": t}],
            [t, f"{t} "],
            MARKERS,
        )
        for t in HOSTILE
    ]
    service = served(serving, items, "<b>ann</b>")
    browser.events.clear()
    tab = browser.tab(next(iter(service.links.values())))
    for number, text in enumerate(HOSTILE, 1):
        assert {shown.rstrip() for shown in ready(tab, number, 0)} == {text.rstrip()}
        shown = tab.js("[...document.querySelectorAll('#turns .text')].map((node) => node.textContent)")
        assert shown == [text] * 3
        tab.press("ArrowRight")
    assert tab.js("window.pwned === undefined && document.title === 'Judgments'")
    assert tab.js("document.getElementById('rater').textContent") == "<b>ann</b>"
    for name in ("iframe", "img", "svg", "style", "main a", "main b", "main script", "main meta"):
        assert tab.js(f"document.querySelectorAll('{name}').length") == 0
    asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{service.port}"}
    assert complaints(browser) == []
    assert not [marker for marker in MARKERS if marker in tab.js("document.documentElement.outerHTML")]


def test_policy_stops_what_slips_in(browser: Browser, serving: list[Service]) -> None:
    """Markup and code that some later mistake puts into the page do not run."""
    tab = browser.tab(served(serving, pairs(1)).links["ann"])
    ready(tab, 1)
    for code in ("document.body.innerHTML = '<b>x</b>'", "document.body.setAttribute('onclick', '1')", "eval('1')"):
        assert tab.js(f"(() => {{ try {{ {code}; return 'done' }} catch (fault) {{ return fault.name }} }})()") in (
            "TypeError",
            "EvalError",
        )
    tab.js("document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x.png'}))")
    time.sleep(0.2)
    tab.js("1")
    blocked = [e for e in browser.events if e["method"] == "Network.loadingFailed"]
    assert [e["params"].get("blockedReason") for e in blocked][-1:] == ["csp"]
    browser.events.clear()


def test_two_tabs_and_two_raters_in_one_browser(browser: Browser, serving: list[Service]) -> None:
    service = served(serving, pairs(2), "ann", "bob")
    one, two, bob = (browser.tab(service.links[name]) for name in ("ann", "ann", "bob"))
    texts = ready(one, 1)
    assert ready(two, 1) == texts
    ready(bob, 1)
    one.press("1")
    ready(one, 2)
    two.press("2")
    two.wait("document.getElementById('status').textContent.includes('judged in another tab')")
    ready(two, 2)
    bob.press("0")
    ready(bob, 2)
    found = kept()
    assert [j.rater for j in found] == ["ann", "bob"]
    assert found[0].choice.best == found[0].order[0]
    assert found[1].choice == Choice(None, None)


def test_a_killed_server_costs_nothing(browser: Browser, serving: list[Service]) -> None:
    service = served(serving, pairs(2))
    tab = browser.tab(service.links["ann"])
    ready(tab, 1)
    service.kill()
    tab.press("1")
    tab.wait("document.getElementById('status').textContent.includes('Trying again')")
    assert kept() == []
    serving.append(Service(Path("a.sqlite"), service.port))
    ready(tab, 2)
    assert [j.choice.best for j in kept()] == [kept()[0].order[0]]


def test_a_judgment_that_cannot_be_stored_is_sent_again(browser: Browser, serving: list[Service]) -> None:
    tab = browser.tab(served(serving, pairs(2)).links["ann"])
    ready(tab, 1)
    with sqlite3.connect("a.sqlite") as db:
        db.execute("ALTER TABLE judgment RENAME TO away")
    tab.press("1")
    tab.wait("document.getElementById('status').textContent.includes('has a fault. Trying again')")
    with sqlite3.connect("a.sqlite") as db:
        db.execute("ALTER TABLE away RENAME TO judgment")
    ready(tab, 2)
    assert len(kept()) == 1


def test_small_screens_and_screen_readers(browser: Browser, serving: list[Service]) -> None:
    """Nothing is wider than the screen; every control has a name; focus is seen; colours are told apart."""
    long = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"turn {n} " * 60} for n in range(9)]
    items = [AnnotationItem.new(long, ["x" * 3000, "  code\n\tindented"], MARKERS)]
    tab = browser.tab(served(serving, items).links["ann"], 360, 740)
    texts = ready(tab, 1)
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    code = tab.js(
        "[...document.querySelectorAll('#responses .text')].find((n) => n.textContent.includes('code')).innerText"
    )
    assert code == "  code\n\tindented"
    assert "x" * 3000 in texts
    assert tab.js(
        "(({ scrollTop, clientHeight, scrollHeight }) => scrollTop + clientHeight >= scrollHeight - 2)(document.getElementById('turns'))"
    )
    tab.click("#unfold")
    assert tab.js(
        "(({ clientHeight, scrollHeight }) => clientHeight >= scrollHeight - 2)(document.getElementById('turns'))"
    )
    tree = tab.command("Accessibility.getFullAXTree")["nodes"]
    controls = [
        n for n in tree if n.get("role", {}).get("value") in ("button", "checkbox", "radio", "progressbar", "article")
    ]
    assert len(controls) >= 9
    assert all(node["name"]["value"].strip() for node in controls)
    names = [node["name"]["value"] for node in controls]
    assert {"Response A", "Response B", "Previous item", "Next item", "Items judged"} <= set(names)
