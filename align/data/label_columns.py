"""Names of labels over several sources: the same label of two datasets of a kind is one column, of two kinds two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from align.data.encoded_groups import EncodedGroups, GroupTable
from align.data.source import Source
from align.errors import ConfigError
from align.records import Labels, Scale

Parts = dict[str, list[tuple[Source, GroupTable]]]
"""The encoded groups of each split, by source."""


def name_labels(parts: Parts, chosen: Sequence[str] | None) -> tuple[Parts, Labels]:
    """Name the columns of all tables and return them with what is known of each label, but for the means.

    A label keeps its name where all labelled sources are of one kind. Otherwise it is `kind-label`, such as
    `hs-helpfulness` and `uf-helpfulness`, the names of the reward model of DPA (Wang et al. 2024, arXiv:2402.18571).
    Raises ConfigError for a chosen label that is not there.
    """
    kinds = {source.kind for tables in parts.values() for source, table in tables if table.attributes}
    scales: dict[str, Scale | None] = {}
    named: Parts = {}
    for split, tables in parts.items():
        named[split] = []
        for source, table in tables:
            names = tuple(f"{source.kind}-{a}" if len(kinds) > 1 else a for a in table.attributes)
            scales |= dict(zip(names, map(source.scales.get, table.attributes), strict=True))
            named[split].append((source, table._replace(attributes=names)))
    if missing := [name for name in chosen or () if name not in scales]:
        there = ", ".join(scales) or "none"
        raise ConfigError(f"data.attributes: {', '.join(missing)} has no label in the data (there: {there})")
    attributes = tuple(scales if chosen is None else chosen)
    return named, Labels(attributes, tuple(scales[a] for a in attributes))


def join(parts: Parts, attributes: Sequence[str]) -> dict[str, EncodedGroups]:
    """Join the tables of every split that has any."""
    return {
        split: EncodedGroups([table for _, table in tables], [source.weight for source, _ in tables], attributes)
        for split, tables in parts.items()
        if tables
    }


def mean_labels(groups: Mapping[str, EncodedGroups]) -> tuple[float, ...]:
    """Return the mean label of every attribute in the training split, NaN for one without."""
    labels = groups["train"].labels
    known = ~np.isnan(labels)
    counts = known.sum(0)
    sums = np.where(known, labels, 0).sum(0)
    return tuple(float(s / c) if c else float("nan") for s, c in zip(sums, counts, strict=True))
