"""The nouns every method shares: one record of data, one batch of tensors, tables of scores."""

from align.records.batch import CandidateBatch
from align.records.beside import Beside
from align.records.conditioning_base import Conditioning
from align.records.conditions import Tally, TwoDigits, WeightedRating
from align.records.example import ASKING, Example, Message, PromptFormat, Role
from align.records.group import EncodedGroup, StepTotals, totals_of
from align.records.instructions import BOTH, NEGATIVE, POSITIVE, Instructions, Which
from align.records.label_scaling import LabelScaling, combine
from align.records.labels import FROM_REFERENCE, Labels, Scale, column_of
from align.records.method_data import MethodLimits, MethodView, TruncationPreset, ViewName
from align.records.other_tokens import Foreign, PromptTokens
from align.records.reward_directions import Arc
from align.records.row_layout import LayoutName, RowLayout
from align.records.sampled import SampledRound, SampledTokens, TakenSample
from align.records.scores import ListScores, PairScores, PointScores, ResponseScores
from align.records.step import Step

__all__ = [
    "ASKING",
    "BOTH",
    "FROM_REFERENCE",
    "NEGATIVE",
    "POSITIVE",
    "Arc",
    "Beside",
    "CandidateBatch",
    "Conditioning",
    "EncodedGroup",
    "Example",
    "Foreign",
    "Instructions",
    "LabelScaling",
    "Labels",
    "LayoutName",
    "ListScores",
    "Message",
    "MethodLimits",
    "MethodView",
    "PairScores",
    "PointScores",
    "PromptFormat",
    "PromptTokens",
    "ResponseScores",
    "Role",
    "RowLayout",
    "SampledRound",
    "SampledTokens",
    "Scale",
    "Step",
    "StepTotals",
    "TakenSample",
    "Tally",
    "TruncationPreset",
    "TwoDigits",
    "ViewName",
    "WeightedRating",
    "Which",
    "column_of",
    "combine",
    "totals_of",
]
