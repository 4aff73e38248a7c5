from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotation.browser import Browser
from tests.annotation.service import Service, fill, pairs


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One server for a file of tests, with two raters; each test uses items of its own."""
    path: Path = fill(tmp_path_factory.mktemp("store") / "a.sqlite", pairs(30), ("ann", "bob"))
    running = Service(path)
    yield running
    running.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def serving() -> Iterator[list[Service]]:
    running: list[Service] = []
    yield running
    for service in running:
        service.kill()
