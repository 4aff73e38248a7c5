"""One source of any kind as the data of a run: a dataset of your own is a source alone."""

from __future__ import annotations

from typing import Any

from align.data.data_module import PreferenceDataModule
from align.data.source import Source


class SourceDataModule(PreferenceDataModule):
    """Serves one source, such as one of your own."""

    def __init__(self, source: Source, **options: Any) -> None:
        """Describe the data.

        Args:
            source: The dataset, by its class.
            options: See PreferenceDataModule.
        """
        super().__init__([source], **options)
