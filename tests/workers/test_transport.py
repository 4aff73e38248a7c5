"""What a command and its workers send each other holds all of a value, and errors that cannot be sent go as text."""

from __future__ import annotations

import threading

import torch

from align.workers.ray_worker import Done, packed
from align.workers.transport import from_bytes, to_bytes


class NeedsTwo(Exception):
    """Is written as its message alone, with which it cannot be made again."""

    def __init__(self, place: str, fault: str) -> None:
        super().__init__(f"{place}: {fault}")


def test_a_tensor_is_sent_whole() -> None:
    values = torch.arange(6.0).view(2, 3)
    data = to_bytes({"scores": values})
    assert b"torch.multiprocessing" not in data
    assert values.numpy().tobytes() in data
    assert torch.equal(from_bytes(data)["scores"], values)


def test_an_error_that_cannot_be_read_again_goes_as_text() -> None:
    done = from_bytes(packed(Done(error=NeedsTwo("row 3", "no answer"), trace="here", warned=("told",))))
    assert isinstance(done.error, RuntimeError)
    assert "row 3: no answer" in str(done.error)
    assert (done.trace, done.warned) == ("here", ("told",))


def test_a_value_that_cannot_be_written_says_so() -> None:
    done = from_bytes(packed(Done(threading.Lock())))
    assert "cannot pickle" in str(done.error)
