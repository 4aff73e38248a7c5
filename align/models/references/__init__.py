"""Reference policies: every kind of them, and none."""

from align.models.references.bias_corrected_reference import BiasCorrectedReference
from align.models.references.moving_reference import FollowingReference, MovingReference
from align.models.references.reference import NoReference, Reference
from align.models.references.reference_cache import Cached
from align.models.references.reference_mixture import MixtureTerm, ReferenceMixture
from align.models.references.reference_models import (
    BaseWithoutAdapters,
    FrozenCopy,
    NamedAdapter,
    PreviousRound,
    default_reference,
)

__all__ = [
    "BaseWithoutAdapters",
    "BiasCorrectedReference",
    "Cached",
    "FollowingReference",
    "FrozenCopy",
    "MixtureTerm",
    "MovingReference",
    "NamedAdapter",
    "NoReference",
    "PreviousRound",
    "Reference",
    "ReferenceMixture",
    "default_reference",
]
