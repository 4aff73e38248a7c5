"""What a method says of itself: to its data, to the self-check, to the schedule, to checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from align.models.backbone import Backbone
from align.records import Instructions, Labels, MethodLimits, MethodView


class MethodSettings:
    """Subclasses set what differs from the usual."""

    view: MethodView
    """The data view the method trains on: the name of one that is shipped, or a view of your own, `view = MyView()`."""
    truncation: MethodLimits
    """The limits on lengths the method takes where the data name none: a preset's name, or a `Truncation`."""
    learning_rates: ClassVar[tuple[float, float]]
    """Usual learning rate for full fine-tuning and for LoRA."""
    instructions: Instructions | None = None
    """Under which the data encodes every prompt, beside the plain one."""
    max_response: int | None = None
    """Longest response the method reads, in tokens; null leaves it to the limits."""
    scores_turns: bool = False
    """Whether every assistant turn of a whole dialogue is scored, not the last alone."""
    reads_others: bool = False
    """Whether every response is also read under another prompt of its step."""
    reads_steps: bool = False
    """Whether a loss reads the whole of its step: validation is in steps then."""
    usual_groups: ClassVar[int] = 64
    """Groups of an optimiser step where neither the data nor the objective name another number."""
    scores_prompts: bool = False
    """Whether the tokens of prompts are scored too."""
    generates: ClassVar[bool] = True
    """Whether the model writes text."""
    reads_states: Sequence[Sequence[str]] = ()
    """Sets of frozen adapters under which hidden states are read; an empty one is the base alone."""
    layers: Sequence[int] = ()
    """Whose states are read, known once the model is built."""
    predicts_asked: ClassVar[bool] = False
    """Whether `predictions` are those under what the method puts into prompts, whatever the data encoded."""
    labels: Labels = Labels()
    """Of the data, known before the model is built."""

    def states_to_check(self) -> tuple[Sequence[Sequence[str]], Sequence[int]]:
        """Return sets of frozen adapters, and layers, whose states the self-check compares; once the model is built."""
        return self.reads_states, self.layers

    @property
    def has_logits(self) -> bool:
        """Whether a step computes logits."""
        return self.generates or bool(getattr(getattr(self, "objective", None), "lm_weight", 0))

    @property
    def frozen_passes(self) -> int:
        """Passes over a batch that have no gradient, once the model is built."""
        return len(self.reads_states)

    @property
    def passes_beside(self) -> int:
        """Trained passes over a batch beside the policy's, once the model is built."""
        return 0

    def frozen_beside(self) -> nn.Module | None:
        """Return what is held beside the model and never trained."""
        return None

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise ConfigError for settings of a backbone that the method cannot use."""

    def moving_parameters(self) -> list[nn.Parameter]:
        """Return frozen weights that move beside those that are trained, so that checkpoints hold them too."""
        return []

    def take_labels(self, labels: Labels) -> None:
        """Take what the data module tells of the labels it read."""
        self.labels = labels

    @property
    def usual_rates(self) -> tuple[float, float]:
        """Return the objective's usual learning rates where it has some of its own, else the method's."""
        return getattr(getattr(self, "objective", None), "learning_rates", None) or self.learning_rates

    @property
    def step_groups(self) -> int:
        """Return the usual number of groups in an optimiser step: the objective's where it has its own."""
        return getattr(getattr(self, "objective", None), "step_groups", None) or self.usual_groups
