"""What every objective says of itself: the data it is for, and what it wants to know beside the policy's scores.

Annotations are evaluated here, and subclasses set `view` and `requires` without one: the command line's parser looks
the names in a base class's annotations up in the subclass's module, and takes any value where one is missing.
"""

from abc import ABC
from collections.abc import Set
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor

from align.errors import ConfigError
from align.records import MethodView

Requirement = Literal["reference", "mismatched_kl", "reward_shift", "values", "forward_kl"]
"""`reference`: log-probabilities of the reference policy.
`mismatched_kl`: mean log-ratio of responses under other prompts (KTO). `reward_shift`: running mean of rewards (BCO).
`values`: a value head's estimate for every prompt (DRO). `forward_kl`: KL from reference to policy per token (PMPO).
"""


class Objective(ABC):
    """A loss: frozen, without state, its fields the hyper-parameters."""

    view: ClassVar[MethodView]
    """The data view it is for: the name of one that is shipped, or a view of your own, `view = MyView()`."""
    requires: ClassVar[frozenset[Requirement]] = frozenset({"reference"})
    """What its module has to provide; without `reference` it cannot read any."""
    learning_rates: ClassVar[tuple[float, float] | None] = None
    """Usual learning rates for full fine-tuning and for LoRA; null takes the module's."""
    step_groups: ClassVar[int | None] = None
    """Usual number of groups in an optimiser step; null takes the module's."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "needs" in vars(cls):
            raise ConfigError(f"objective {cls.__name__} sets `needs`, which would be passed over: call it `requires`")
        asked, known = vars(cls).get("requires"), get_args(Requirement)
        if isinstance(asked, Set) and (unknown := sorted(set(asked) - set(known))):
            raise ConfigError(
                f"objective {cls.__name__} requires {', '.join(unknown)}, which no method gives: expected some of "
                f"{', '.join(known)}"
            )

    def check_labels(self, given: Any) -> None:
        """Raise DataError where the loss cannot use the labels of a batch, while it is still on the CPU.

        `given` is the record the loss is given of the policy, with zeros in the place of log-probabilities or rewards.
        """


def holds(condition: Tensor) -> bool:
    """Tell whether a condition on labels holds everywhere; on a GPU it does, since `check_labels` has looked before.

    To read it there would be to wait for all that was computed so far.
    """
    return condition.device.type != "cpu" or bool(condition.all())
