"""Reference log-probabilities computed once, before training, and kept on disk for other epochs and runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from safetensors import safe_open
from safetensors.numpy import save
from torch import nn
from tqdm import tqdm

from align.distributed import gather, on_any, rank
from align.errors import ResumeError
from align.files import atomic_file
from align.models.adapter_folder import REFERENCE_ADAPTER
from align.models.backbone import Backbone
from align.models.references.reference import Reference
from align.models.references.reference_models import FrozenCopy, default_reference
from align.models.streamed_weights import is_sharded
from align.records import CandidateBatch, ResponseScores
from align.transfer import on_cpu, raw_bytes, tensor_on

Key = bytes


class ReferenceTable(nn.Module):
    """Log-probability and length of every candidate, under a hash of its token ids; a part of no checkpoint."""

    def __init__(self, header: dict[str, str]) -> None:
        super().__init__()
        self.header = header
        self.values: dict[Key, tuple[float, int]] = {}

    def lookup(self, batch: CandidateBatch) -> ResponseScores:
        """Return the stored scores. Raises ResumeError for a candidate that was never scored."""
        rows = [self.values.get(key) for key in candidate_keys(batch)]
        if any(row is None for row in rows):
            raise ResumeError(
                f"the reference cache holds no value for a response of {batch.ids[0]!r} or a neighbour: data, "
                "tokenizer, template or limits changed after it was filled; use reference FrozenCopy for changing data"
            )
        device = batch.response_ids.device
        logprobs, lengths = zip(*(row for row in rows if row is not None), strict=True)
        return ResponseScores(tensor_on(device, logprobs), tensor_on(device, lengths))

    def load(self, path: Path) -> None:
        """Read a file. Raises ResumeError where it was made by other weights or another configuration."""
        with safe_open(path, framework="numpy") as file:
            stored = json.loads(file.metadata()["header"])
            for name, now in self.header.items():
                if stored.get(name) != now:
                    raise ResumeError(
                        f"reference cache {path}: {name} is {stored.get(name)!r} there and {now!r} in this run: "
                        "remove the file or name another"
                    )
            keys, logprobs, lengths = (file.get_tensor(name) for name in ("keys", "logprobs", "lengths"))
        rows = zip(map(bytes, keys), logprobs.tolist(), lengths.tolist(), strict=True)
        self.values = {key: (logprob, length) for key, logprob, length in rows}

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all; raises OSError."""
        logprobs, lengths = zip(*self.values.values(), strict=True)
        tensors = {
            "keys": np.frombuffer(b"".join(self.values), dtype=np.uint8).reshape(len(self.values), -1),
            "logprobs": np.array(logprobs, dtype=np.float32),
            "lengths": np.array(lengths, dtype=np.int32),
        }
        with atomic_file(path) as part:
            part.write_bytes(save(tensors, metadata={"header": json.dumps(self.header)}))


@dataclass(frozen=True)
class Cached(Reference):
    """Log-probabilities of the policy's start, computed before the first step: no second model, no second forward pass.

    Pays off from the second epoch or run on, and in memory from the first step.
    """

    path: str | None = None
    """File to keep them in; null puts them under runs/cache/reference, named by a hash of what decides them."""

    def own_model(self, policy: nn.Module, backbone: Backbone, tokenizer: Any) -> nn.Module:
        """Return an empty table with the identity of the weights that will fill it."""
        return ReferenceTable({"weights": weights_hash(policy), "config": config_hash(policy)})

    def file(self, header: dict[str, str]) -> Path:
        """Return where the values are kept."""
        name = hashlib.sha256(json.dumps(header).encode()).hexdigest()[:16]
        return Path(self.path or f"runs/cache/reference/{name}.safetensors")

    def prepare(self, policy: nn.Module, batches: Iterable[CandidateBatch], *, moved: bool) -> None:
        """Fill the table for all batches. `moved` says that the policy was trained already."""
        path = self.file(self._table.header)
        if path.exists():
            self._table.load(path)
        usual = default_reference(policy)
        copied = isinstance(usual, FrozenCopy)  # then the policy scores, which is the start still
        sharded = is_sharded(policy)  # then all processes score where one has to: they gather the weights together
        fresh: dict[Key, tuple[float, int]] = {}
        for batch in tqdm(batches, desc="reference log-probabilities", leave=False, disable=None):
            keys = candidate_keys(batch)
            missing = not all(key in self._table.values for key in keys)
            if not (on_any(missing, batch.response_ids.device) if sharded else missing):
                continue
            if copied and moved:
                raise ResumeError(
                    f"reference cache {path} is missing or incomplete and the policy has moved: start the run anew"
                )
            scores = self._start(policy, batch) if copied else usual.holding(None, self.scored).score(policy, batch)
            fresh |= dict(zip(keys, zip(scores.logprobs.tolist(), scores.lengths.tolist(), strict=True), strict=True))
        fresh = {key: value for part in gather(fresh) for key, value in part.items()}
        if fresh:
            self._table.values = fresh | self._table.values
            if rank() == 0:
                self._table.save(path)
            rank_zero_info(f"reference: {len(fresh)} responses scored, kept in {path}")

    def score(self, policy: nn.Module, batch: CandidateBatch) -> ResponseScores:
        """Look the batch up."""
        return self._table.lookup(batch)

    @torch.no_grad()
    def _start(self, policy: nn.Module, batch: CandidateBatch) -> ResponseScores:
        return self.scored(policy, batch)

    @property
    def _table(self) -> ReferenceTable:
        assert isinstance(self.model, ReferenceTable)
        return self.model

    @property
    def precomputed(self) -> bool:
        """Whether values were computed before training."""
        return True

    @property
    def is_start(self) -> bool:
        """Whether they are those of the policy as the run starts."""
        return True


def candidate_keys(batch: CandidateBatch) -> list[Key]:
    """Return a hash of prompt and response ids for every candidate; it holds tokenizer, template and truncation."""
    prompts = [p.tobytes() for p in _split(batch.prompt_ids, batch.prompt_lengths)]
    responses = [r.tobytes() for r in _split(batch.response_ids, batch.response_lengths)]
    pairs = zip(batch.prompt_of, responses, strict=True)
    return [hashlib.blake2b(prompts[p] + b"|" + r, digest_size=16).digest() for p, r in pairs]


def weights_hash(model: nn.Module) -> str:
    """Return a hash of all weights the start is computed with: not those of adapters where it has none, or a copy."""
    digest = hashlib.blake2b(digest_size=16)
    whole = isinstance(default_reference(model), FrozenCopy)
    for name, tensor in sorted(model.state_dict().items()):
        if whole or "lora_" not in name or REFERENCE_ADAPTER in name:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            if not tensor.is_meta:  # sizes are counted without values
                digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def config_hash(model: Any) -> str:
    """Return a hash of the architecture's settings."""
    settings = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _split(ids: torch.Tensor, lengths: tuple[int, ...]) -> list[np.ndarray]:
    return np.split(on_cpu(ids).numpy(), np.cumsum(lengths)[:-1])
