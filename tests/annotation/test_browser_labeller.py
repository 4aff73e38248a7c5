"""The questions about a rater in a real headless Chromium: before the first item, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.annotation.annotation_store import AnnotationStore
from align.cli.annotation_form import labeller_form
from tests.annotation.browser import Browser, program
from tests.annotation.service import ROOT, Service, fill, pairs

SHIPPED = str(ROOT / "configs" / "annotation" / "labeller.yaml")
ASKED = "!document.getElementById('about').hidden"
JUDGED = "!document.getElementById('work').hidden"


@pytest.mark.skipif(program() is None, reason="no Chromium here")
def test_a_rater_is_asked_once(tmp_path: Path) -> None:
    service = Service(fill(Path("a.sqlite"), pairs(2), labeller=labeller_form(SHIPPED)))
    browser = Browser(tmp_path / "profile")
    try:
        tab = browser.tab(service.links["ann"])
        tab.wait(ASKED)
        assert tab.js("[...document.querySelectorAll('#about-form select')].map((s) => s.options.length)") == [
            4,
            7,
            3,
            6,
            3,
        ]
        tab.press("1")  # no judgment of an item that is not shown yet
        tab.js("document.getElementById('about-id').value = ' w7 '")
        tab.js("document.getElementById('about-age').value = '25-34'")
        tab.js("document.querySelector('#about-form button').scrollIntoView()")
        tab.click("#about-form button")
        tab.wait(JUDGED)
        tab.command("Page.reload")
        tab.wait(f"performance.getEntriesByType('navigation')[0].type == 'reload' && {JUDGED}")
        assert not tab.js(ASKED)
    finally:
        browser.close()
        service.kill()
    store = AnnotationStore(Path("a.sqlite"))
    [answers] = store.labellers.by_name().values()
    assert {name: value for name, value in answers.items() if value} == {"id": "w7", "age": "25-34"}
    assert store.judgments() == []
    store.close()
