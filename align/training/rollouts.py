"""What is computed once of the samples of a round, by token, and read at every step on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from align.distributed import gather, on_first
from align.errors import ConfigError, ResumeError
from align.files import atomic_file
from align.records import CandidateBatch, SampledRound
from align.records.candidate_matrix import sum_runs
from align.transfer import to_device

Columns = dict[str, Tensor]
"""By name, a number for every token of a batch or of a round."""


class Rollouts:
    """Columns of numbers, one for every token of a round, on the CPU."""

    def __init__(self, sampled: SampledRound) -> None:
        self.sampled = sampled
        self._rows = {name: row for row, name in enumerate(sampled.ids)}
        self._samples = np.concatenate([[0], np.cumsum(sampled.sizes)])
        self._tokens = np.concatenate([[0], np.cumsum(sampled.lengths)])[self._samples]
        self.columns: Columns = {}

    def gathered(self, found: Iterable[tuple[CandidateBatch, Columns]]) -> Columns:
        """Return the columns of a whole round from those of every process's batches; every process calls."""
        parts = []
        for batch, columns in found:
            lengths = np.add.reduceat(batch.response_lengths, np.cumsum((0, *batch.group_sizes))[:-1]).tolist()
            split = {name: torch.split(values.float().cpu(), lengths) for name, values in columns.items()}
            parts += [(name, {c: v[n].numpy() for c, v in split.items()}) for n, name in enumerate(batch.ids)]
        rows = {self._rows[name]: columns for part in gather(parts) for name, columns in part}
        names = list(rows[0])
        return {c: torch.from_numpy(np.concatenate([rows[r][c] for r in range(len(rows))])) for c in names}

    def of(self, batch: CandidateBatch, device: torch.device) -> Columns:
        """Return the columns of a batch, in the order of its tokens."""
        rows = [self._rows[name] for name in batch.ids]
        spans = [slice(self._tokens[r], self._tokens[r + 1]) for r in rows]
        return {name: to_device(torch.cat([v[s] for s in spans]), device) for name, v in self.columns.items()}

    def samples_of(self, batch: CandidateBatch, values: Sequence[float] | np.ndarray) -> Tensor:
        """Return of a number for every sample of the round those of a batch, on the CPU."""
        rows = [self._rows[name] for name in batch.ids]
        own = [np.asarray(values)[self._samples[r] : self._samples[r + 1]] for r in rows]
        return torch.from_numpy(np.concatenate(own)).float()

    def by_token(self, values: np.ndarray | Tensor) -> Tensor:
        """Return the number of every token's sample."""
        return torch.as_tensor(values).float().repeat_interleave(torch.from_numpy(self.sampled.lengths))

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of every sample's tokens."""
        return sum_runs(values, torch.from_numpy(self.sampled.lengths))

    def compared_with_engine(self) -> dict[str, float]:
        """Return how far our log-probabilities are from those of the engine that drew, over all tokens of the round.

        Where losses are corrected, the ratio of every token is added: our probability over the engine's, at most the
        cap, and 1 where the engine told nothing (TRL 1.16's `token_truncate`). Without another engine nothing is.
        """
        sampled = self.sampled
        if sampled.engine_logprobs is None:
            return {}
        gaps = self.columns["old_logprobs"].double() - torch.from_numpy(sampled.engine_logprobs)
        known = gaps[~gaps.isnan()]
        ratios = gaps.nan_to_num(nan=0.0).exp()
        self.columns["engine_logprobs"] = torch.from_numpy(sampled.engine_logprobs).float()
        told = {"engine_difference": known.abs().mean(), "engine_difference_max": known.abs().max()}
        if sampled.importance_cap is not None:
            self.columns["engine_ratios"] = ratios.clamp(max=sampled.importance_cap).float()
            told["engine_ratio"] = ratios.clamp(max=sampled.importance_cap).mean()
            told["engine_ratios_capped"] = (ratios > sampled.importance_cap).double().mean()
        return {name: float(value) for name, value in told.items()}

    def keep(self) -> None:
        """Write the columns, for a run that goes on inside the round; those of the round before are not needed."""
        path = self.sampled.path
        on_first(lambda: _write(path, self.columns, self.sampled.sha256))

    def recall(self) -> None:
        """Read them. Raises ResumeError where they are missing, or of another round."""
        path = self.sampled.path
        found = on_first(lambda: _read(path, self.sampled.sha256))
        if found is None:
            raise ResumeError(
                f"{path} is missing or of other samples: it holds log-probabilities under the weights that round "
                f"{self.sampled.number} began with, and weights from inside a round cannot give them: put it back"
            )
        self.columns = found


def _write(path: Path, columns: Columns, sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        save_file({name: values.contiguous() for name, values in columns.items()}, part, {"round": sha256})
    for other in path.parent.glob("rollouts-*.safetensors"):
        if other.name < path.name and not other.name.endswith(_before(path)):
            other.unlink()


def _before(path: Path) -> str:
    """Return the name of the round before, whose last checkpoint may be the one a run goes on from."""
    number = int(path.stem.rpartition("-")[2])
    return f"-{number - 1:06d}.safetensors"


def _read(path: Path, sha256: str) -> Columns | None:
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as stored:
        if (stored.metadata() or {}).get("round") != sha256:
            return None
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def require_rounds(module: object, source: object) -> None:
    """Raise ConfigError, with what to add, for a module that trains on its own samples where nothing draws them."""
    if source is None:
        raise ConfigError(
            f"{type(module).__name__} trains on its own samples: add -c configs/callbacks/online.yaml, or what "
            "belongs to the method (online_ppo.yaml, nash_md_rounds.yaml), or align.callbacks.resampling."
            "IterativeResampling with the selection EverySample"
        )
