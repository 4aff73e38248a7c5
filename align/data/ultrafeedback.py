"""UltraFeedback (Cui et al. 2023, arXiv:2310.01377): four rated completions per instruction, raw or as pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from align.data.convention import Convention
from align.data.data_module import PreferenceDataModule
from align.data.preference_file import PreferenceFile
from align.data.readers import Located
from align.data.row_parts import RowParts
from align.data.ultrafeedback_rows import ASPECTS, RankingScore, raw_row
from align.records import Scale

__all__ = ["ASPECTS", "RankingScore", "UltraFeedback", "UltraFeedbackDataModule"]


class UltraFeedback(PreferenceFile):
    """Reads raw rows (`instruction`, `completions`) and binarized ones (`prompt`, `chosen`, `rejected`)."""

    def __init__(self, path: str, *, ranking_score: RankingScore = "mean", **options: Any) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id.
            ranking_score: What raw completions are ranked by: the mean of the rated aspects, or the overall score,
                which an early release got wrong for 2628 completions.
            options: See PreferenceFile.
        """
        super().__init__(path, **options)
        self.ranking_score = ranking_score

    @property
    def kind(self) -> str:
        """Return the prefix its labels have beside those of other datasets."""
        return "uf"

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Return the grades annotators chose from."""
        return {"overall_score": Scale(1, 10), **dict.fromkeys(ASPECTS, Scale(1, 5))}

    def adapted(self, convention: Convention) -> Convention:
        """Rank raw rows by the score asked for."""
        return replace(convention, read=self._raw) if convention.read is raw_row else convention

    def _raw(self, located: Located) -> RowParts:
        return raw_row(located, self.ranking_score)


class UltraFeedbackDataModule(PreferenceDataModule):
    """Serves UltraFeedback."""

    def __init__(
        self,
        path: str,
        max_samples: int | None = None,
        *,
        ranking_score: RankingScore = "mean",
        keep_columns: list[str] | None = None,
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            path: A file, a folder, or a hub id (openbmb/UltraFeedback, HuggingFaceH4/ultrafeedback_binarized).
            max_samples: Use at most this many prompts of each split, chosen by a hash of their ids.
            ranking_score: What raw completions are ranked by, the mean of the rated aspects or the overall score.
            keep_columns: Columns for reward functions, such as `[answer]`.
            options: See PreferenceDataModule.
        """
        kept: dict[str, Any] = {"max_samples": max_samples, "keep_columns": keep_columns or ()}
        super().__init__([UltraFeedback(path, ranking_score=ranking_score, **kept)], **options)
