"""Ratings on the page, in a real browser: beside a choice, and beside best and worst."""

from __future__ import annotations

import json

import pytest

from align.annotation.form import Field, RatingScale
from align.annotation.items import AnnotationItem, Choice
from tests.annotation.browser import Browser, Tab, program
from tests.annotation.browsing import complaints, kept, ready, served, stored
from tests.annotation.service import Service, pairs

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium here")

FORM = (RatingScale(high=7, low_label="very bad", high_label="very good").field(), Field("harm", "Harmful?"))


def answer(tab: Tab, place: int, field: str, value: object) -> None:
    at = f"[data-field='{field}'][data-place='{place}']"
    tab.click(f"{at}[data-value='{json.dumps(value)}']")


def pressed(tab: Tab) -> list[list]:
    found = "[...document.querySelectorAll('.value[aria-pressed=true]')].map(({ dataset: d }) => [d.field, d.place, d.value])"
    return tab.js(found)


def test_ratings_go_with_the_choice(browser: Browser, serving: list[Service]) -> None:
    browser.events.clear()
    tab = browser.tab(served(serving, pairs(2), fields=FORM).links["ann"])
    first = ready(tab, 1)
    shown = tab.js("document.querySelector('article .remark').innerText")
    assert "Overall quality" in shown
    assert shown.index("very bad") < shown.index("1") < shown.index("7") < shown.index("very good")
    answer(tab, 0, "rating", 6)
    tab.press("1")  # the other response is not rated yet: nothing is sent, and the page goes to the question
    tab.wait("document.getElementById('status').textContent === 'First, of response B: Overall quality'")
    assert tab.js("document.activeElement.dataset.place") == "1"
    assert kept() == []
    tab.js("document.activeElement.click()")  # as Space does
    answer(tab, 1, "rating", 2)  # another value takes the place of the first
    answer(tab, 0, "harm", "no")
    answer(tab, 1, "harm", "yes")
    answer(tab, 1, "harm", "yes")  # twice: taken back
    assert pressed(tab) == [["rating", "0", "6"], ["harm", "0", '"no"'], ["rating", "1", "2"]]
    tab.press("1")
    ready(tab, 2)
    (found,) = kept()
    place = found.choice.best
    texts = {item.id: item.responses for item in stored()}[found.item]
    assert texts[place] == first[0]
    assert (found.remarks["rating"][place], found.remarks["rating"][1 - place]) == (6, 2)
    assert (found.remarks["harm"][place], found.remarks["harm"][1 - place]) == ("no", None)

    tab.press("ArrowLeft")  # what was said is there again, and can be changed
    ready(tab, 1)
    assert pressed(tab) == [["rating", "0", "6"], ["harm", "0", '"no"'], ["rating", "1", "2"]]
    answer(tab, 1, "rating", 3)
    tab.press("ArrowRight")
    tab.wait("document.getElementById('status').textContent === 'Item 1 is not saved before you choose'")
    ready(tab, 2)
    tab.press("ArrowLeft")
    ready(tab, 1)
    tab.press("1")
    ready(tab, 2)
    assert sorted(kept()[0].remarks["rating"]) == [3, 6]
    assert complaints(browser) == []


def test_ratings_beside_best_and_worst(browser: Browser, serving: list[Service]) -> None:
    items = [AnnotationItem.new([{"role": "user", "content": "p"}], ["x", "y", "z"], "abc")]
    tab = browser.tab(served(serving, items, task="best_worst", fields=FORM).links["ann"], 360, 740)
    texts = ready(tab, 1)
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    for place in range(3):
        tab.js(f'document.querySelector(\'[data-place="{place}"][data-value="{place + 1}"]\').click()')
    tab.js('document.querySelector(\'[data-place="2"][data-value="5"]\').focus()')
    tab.press("3")
    tab.press("1", shift=True)
    tab.press("Enter")  # saves, and does not press the value that has the focus
    tab.wait("!document.getElementById('done').hidden")
    (found,) = kept()
    assert [found.remarks["rating"][["x", "y", "z"].index(text)] for text in texts] == [1, 2, 3]
    assert found.choice == Choice(["x", "y", "z"].index(texts[2]), ["x", "y", "z"].index(texts[0]))
