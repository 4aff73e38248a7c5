"""The nouns every method shares: one record of data, one batch of tensors, tables of scores."""

from align.records.batch import CandidateBatch, EncodedGroup, StepTotals, totals_of
from align.records.data import Example, Message, Preset, PromptFormat, Role, ViewName
from align.records.labels import Labels, Scale, column_of
from align.records.rescaling import Rescaling, combine
from align.records.scores import ListScores, PairScores, PointScores, ResponseScores

__all__ = [
    "CandidateBatch",
    "EncodedGroup",
    "Example",
    "Labels",
    "ListScores",
    "Message",
    "PairScores",
    "PointScores",
    "Preset",
    "PromptFormat",
    "Rescaling",
    "ResponseScores",
    "Role",
    "Scale",
    "StepTotals",
    "ViewName",
    "column_of",
    "combine",
    "totals_of",
]
