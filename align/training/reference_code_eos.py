"""The end-of-sequence token as PRO's published code scores it."""

from __future__ import annotations

import numpy as np
import torch

from align.records import CandidateBatch
from align.transfer import on_cpu


def without_longest_ends(batch: CandidateBatch, eos_id: int) -> CandidateBatch:
    """Return a batch in which the longest rows lose their EOS.

    The published code adds no EOS, pads with it, and scores one position after each response: the first padding token,
    which the longest rows of a batch do not have. The loss of a record so depends on what shares its batch. A response
    cut to length has no EOS to lose; one that is nothing but EOS keeps it.
    """
    responses = list(torch.split(batch.response_ids, list(batch.response_lengths)))
    last = on_cpu(batch.response_ids)[np.cumsum(batch.response_lengths) - 1].tolist()
    ends = [len(r) > 1 and token == eos_id for r, token in zip(responses, last, strict=True)]
    rows = [batch.prompt_lengths[p] + len(r) - e for p, r, e in zip(batch.prompt_of, responses, ends, strict=True)]
    kept = [r[:-1] if end and n == max(rows) else r for r, end, n in zip(responses, ends, rows, strict=True)]
    return batch._replace(response_ids=torch.cat(kept), response_lengths=tuple(map(len, kept)))
