"""A sealed round as its method trains on it, tokenised once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from align.data.data_module import PreferenceDataModule
from align.data.encoded import encode, load_cached
from align.data.encoded_groups import EncodedGroups
from align.data.source import Report
from align.data.views import View
from align.errors import DataError
from align.rounds.round_folder import RoundFolder


def encoded_round(
    rounds: RoundFolder, number: int, sha256: str, *, data: PreferenceDataModule, view: View
) -> EncodedGroups:
    """Return the groups of a round as a view has them. Raises DataError where none is left."""
    encoder, folder = data.encoder, Path(data.encoding.cache_dir)
    assert encoder is not None
    key = hashlib.sha256(repr((sha256, view.fingerprint, encoder.fingerprint)).encode()).hexdigest()[:24]
    examples = rounds.read(number, sha256)
    cached = load_cached(folder, key)
    if cached is not None and cached[0]:
        return EncodedGroups(cached[0], [1.0], cached[0][0].attributes)
    report = Report(read=len(examples))
    groups = view.apply(examples, report)
    if not groups:
        raise DataError(f"round {number}: no record is left for the method: {report}")
    table = encode(groups, encoder, report, folder=folder, key=key, num_proc=data.encoding.num_proc)
    return EncodedGroups([table], [1.0], table.attributes)
