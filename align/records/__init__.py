"""The nouns every method shares: one record of data, one batch of tensors, tables of scores."""

from align.records.batch import CandidateBatch, Foreign, Prompts
from align.records.conditions import Conditioning, Tally, TwoDigits, WeightedRating
from align.records.data import ASKING, Example, Message, Preset, PromptFormat, Role, ViewName
from align.records.directions import Arc
from align.records.group import EncodedGroup, StepTotals, totals_of
from align.records.instructions import BOTH, NEGATIVE, POSITIVE, Instructions, Which
from align.records.labels import Labels, Scale, column_of
from align.records.rescaling import Rescaling, combine
from align.records.scores import ListScores, PairScores, PointScores, ResponseScores
from align.records.step import Step

__all__ = [
    "ASKING",
    "BOTH",
    "NEGATIVE",
    "POSITIVE",
    "Arc",
    "CandidateBatch",
    "Conditioning",
    "EncodedGroup",
    "Example",
    "Foreign",
    "Instructions",
    "Labels",
    "ListScores",
    "Message",
    "PairScores",
    "PointScores",
    "Preset",
    "PromptFormat",
    "Prompts",
    "Rescaling",
    "ResponseScores",
    "Role",
    "Scale",
    "Step",
    "StepTotals",
    "Tally",
    "TwoDigits",
    "ViewName",
    "WeightedRating",
    "Which",
    "column_of",
    "combine",
    "totals_of",
]
