"""Frozen states kept on disk: plain states and difference vectors of every response, for later epochs and runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from align.errors import ResumeError
from align.models.adapters import is_of
from align.models.references.reference_cache import candidate_keys
from align.records import CandidateBatch
from align.transfer import raw_bytes, to_device

HEADER = "header.json"


class StateCache:
    """Two tensors per response under a hash of its tokens and prompts; each process appends to a file of its own.

    The header says what decides the states beside the tokens: weights, adapters, layers, prompts, precision. A folder
    made under another one is refused. An index line is written after the bytes it tells of, so a killed run leaves
    nothing that is read wrongly.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], rank: int = 0) -> None:
        """Open a folder, or begin one. Raises ResumeError where it was made under another header."""
        self.folder = folder / hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / HEADER
        if note.exists() and json.loads(note.read_text()) != dict(header):
            raise ResumeError(f"state cache {self.folder}: made under other settings; remove it")
        note.write_text(json.dumps(header, indent=2))
        self._own = self.folder / f"states-{rank}.bin"
        self._places: dict[bytes, tuple[Path, int, list[int], str]] = {}
        for index in sorted(self.folder.glob("*.index")):
            self._read_index(index)

    def _read_index(self, index: Path) -> None:
        size = index.with_suffix(".bin").stat().st_size
        for line in index.read_text().splitlines():
            try:
                key, start, shape, dtype, end = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            if end <= size:
                self._places[bytes.fromhex(key)] = (index.with_suffix(".bin"), start, shape, dtype)

    def lookup(self, batch: CandidateBatch) -> tuple[Tensor, Tensor] | None:
        """Return plain states and differences of a batch, None when one of its responses was not seen yet."""
        keys = response_keys(batch)
        if not all(key in self._places for key in keys):
            return None
        pieces = [self._load(*self._places[key]) for key in keys]
        base, difference = to_device(torch.cat(pieces, dim=2), batch.response_ids.device)
        return base, difference

    def store(
        self,
        batch: CandidateBatch,
        base: Float[Tensor, "layer token hidden"],
        difference: Float[Tensor, "layer token hidden"],
    ) -> None:
        """Append the states of every response of a batch."""
        counts = [length + 1 for length in batch.response_lengths]
        both = torch.stack([base.to(difference.dtype), difference]).detach().cpu()
        with self._own.open("ab") as data, self._own.with_suffix(".index").open("a") as index:
            for key, piece in zip(response_keys(batch), torch.split(both, counts, dim=2), strict=True):
                start = data.seek(0, 2)
                data.write(raw_bytes(piece))
                data.flush()
                name = str(piece.dtype).removeprefix("torch.")
                print(json.dumps([key.hex(), start, list(piece.shape), name, data.tell()]), file=index, flush=True)
                self._places[key] = (self._own, start, list(piece.shape), name)

    @staticmethod
    def _load(path: Path, start: int, shape: list[int], dtype: str) -> Tensor:
        kind: torch.dtype = getattr(torch, dtype)
        size = torch.Size(shape).numel() * kind.itemsize
        with path.open("rb") as file:
            file.seek(start)
            return torch.frombuffer(bytearray(file.read(size)), dtype=kind).reshape(shape)


def response_keys(batch: CandidateBatch) -> list[bytes]:
    """Return a hash of every response's ids and of all prompts it is read under."""
    views = [batch, *(batch.under(i) for i in range(len(batch.instructed)))]
    columns = zip(*(candidate_keys(view) for view in views), strict=True)
    return [hashlib.blake2b(b"|".join(keys), digest_size=16).digest() for keys in columns]


def adapters_hash(model: nn.Module, names: list[str]) -> str:
    """Return a hash of the weights of some adapters."""
    digest = hashlib.blake2b(digest_size=16)
    for path, tensor in sorted(model.state_dict().items()):
        if is_of(path, names):
            digest.update(path.encode())
            digest.update(raw_bytes(tensor))
    return digest.hexdigest()
