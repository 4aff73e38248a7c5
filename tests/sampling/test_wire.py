"""What a question that was never answered says of the service."""

from __future__ import annotations

import asyncio

import pytest

from align.sampling.server_faults import read_error
from align.sampling.wire import Late, RetryPolicy, ServiceStopped, Transient, Wire


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as the service asks and no longer."""
    monkeypatch.setattr("random.uniform", lambda low, high: low)


def told(timeout: float, deadline: float, *faults: Transient) -> str:
    """Return the message after each try of the service ended with its fault, and those after the last with it."""
    left = list(faults)

    async def call(seconds: float) -> str:
        if isinstance(left[0], Late):
            await asyncio.sleep(seconds)
        raise left.pop(0) if len(left) > 1 else left[0]

    async def question() -> None:
        async with Wire("http://127.0.0.1:9", None, RetryPolicy(timeout, deadline), asyncio.Event(), 1) as wire:
            await wire.patiently(call)

    with pytest.raises(ServiceStopped) as stopped:
        asyncio.run(question())
    return str(stopped.value)


def test_a_try_that_the_deadline_cuts_short_does_not_hide_the_fault() -> None:
    assert "status 500" in told(0.3, 0.3, Transient("status 500", 0.01), Late("no whole answer"))


def test_a_wait_that_ends_at_the_deadline_is_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    async def oversleep(self: Wire, seconds: float) -> None:
        await asyncio.sleep(0.25)

    monkeypatch.setattr(Wire, "_sleep", oversleep)
    assert "status 500" in told(0.2, 0.2, Transient("status 500", 0.01))


def test_a_service_that_is_late_in_full_time_is_told_as_late() -> None:
    assert "no whole answer" in told(0.1, 0.25, Transient("status 500", 0.01), Late("no whole answer"))


def test_a_service_that_never_answers_is_told_as_late() -> None:
    assert "no whole answer" in told(0.1, 0.1, Late("no whole answer"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "no such model", "code": "x"}}', {"message": "no such model", "code": "x"}),
        ('{"detail": "prompt must be a string."}', {"message": "prompt must be a string."}),
        ('{"detail": [{"loc": ["body"], "msg": "Field required"}]}', {"message": "body Field required"}),
        ('{"detail": [1]}', None),
        ('{"choices": [1], "detail": "x"}', None),
        ('{"detail": ""}', None),
    ],
)
def test_what_a_server_says_is_wrong_is_read_wherever_it_says_it(body: str, said: dict[str, str] | None) -> None:
    assert read_error(body) == said


def test_a_wait_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Found by hand: a judge that was down was waited for a quarter of an hour without a word."""
    monkeypatch.setattr("align.sampling.wire.SILENT", 0.05)
    told(0.1, 0.3, Transient("status 500", 0.03))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("http://127.0.0.1:9: no answer for 0 s (status 500): it is asked again for up to 0.3 s")
    told(0.1, 0.1, Transient("status 500", 0.03))
