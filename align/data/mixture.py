"""Several sources as one dataset, each with a weight."""

from __future__ import annotations

from typing import Any

from align.data.data_module import PreferenceDataModule
from align.data.source import Source


class MixtureDataModule(PreferenceDataModule):
    """Serves a weighted mixture of sources."""

    def __init__(self, sources: list[Source], **options: Any) -> None:
        """Describe the data.

        Args:
            sources: The datasets; `weight` of each says how often its training examples appear in an epoch.
            options: See PreferenceDataModule.
        """
        super().__init__(sources, **options)
