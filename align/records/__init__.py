"""The nouns every method shares: one record of data, one batch of tensors, tables of scores."""

from align.records.batch import CandidateBatch, EncodedGroup, Prompts, StepTotals, totals_of
from align.records.data import Example, Message, Preset, PromptFormat, Role, ViewName
from align.records.instructions import BOTH, NEGATIVE, POSITIVE, Instructions, Which
from align.records.scores import ListScores, PairScores, PointScores, ResponseScores

__all__ = [
    "BOTH",
    "NEGATIVE",
    "POSITIVE",
    "CandidateBatch",
    "EncodedGroup",
    "Example",
    "Instructions",
    "ListScores",
    "Message",
    "PairScores",
    "PointScores",
    "Preset",
    "PromptFormat",
    "Prompts",
    "ResponseScores",
    "Role",
    "StepTotals",
    "ViewName",
    "Which",
    "totals_of",
]
