"""A policy that is written for servers: no process reads it before it is there."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from align.errors import StoreError
from align.sampling import written_policies
from align.sampling.written_policies import WrittenPolicies
from tests.processes.test_patience import together


def test_every_process_finds_it_whole_or_hears_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process writes for a second; what it cannot write, all hear of."""

    def write(model: Any, tokenizer: Any, folder: Path, prompt_format: Any, *, whole: bool) -> None:
        if folder.exists():
            time.sleep(0.5)
            (folder / "adapter_config.json").touch()
            if whole:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(written_policies, "write_for_servers", write)
    module: Any = SimpleNamespace(model=None, tokenizer=None)

    def work(rank: int) -> list[str]:
        policies = WrittenPolicies(tmp_path / "rounds")
        found = policies.write(module, None, "1", whole=False)  # type: ignore[arg-type]
        try:
            policies.write(module, None, "2", whole=True)  # type: ignore[arg-type]
        except StoreError as error:
            return [*sorted(file.name for file in found.folder.parent.iterdir()), str(error)[-35:]]
        raise AssertionError("it was written")

    first, second = together(tmp_path, work)
    assert first == second
    assert "No space left on device: make room" in first
