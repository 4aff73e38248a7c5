"""How likely the policies of model folders find the responses of a data module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from align.data.data_module import PreferenceDataModule
from align.encoding.put import Put
from align.errors import ConfigError
from align.evaluation.policy import Policy
from align.evaluation.response_likelihoods import Likelihoods, response_likelihoods
from align.models.backbone import Backbone
from align.models.loading import max_positions
from align.records import Example, Instructions, Labels, MethodLimits, MethodView, RowLayout


@dataclass
class PolicyNeeds:
    """What a policy folder asks of the data: the tokens of whole responses, within its context."""

    tokenizer: Any
    max_positions: int
    view: MethodView = "lists"
    truncation: MethodLimits = "usual"
    instructions: Instructions | None = None
    max_response: int | None = None
    scores_turns: bool = False
    reads_others: bool = False
    reads_steps: bool = False

    @property
    def step_groups(self) -> int:
        """Return one: there are no steps."""
        return 1

    def take_labels(self, labels: Labels) -> None:
        """Take nothing."""

    def row_layout(self) -> RowLayout:
        """Return the usual layout."""
        return RowLayout()


def policy_likelihoods(data: PreferenceDataModule, examples: Sequence[Example], folder: str) -> Likelihoods:
    """Return how likely a folder finds the responses, written and cut as the data says, asked as the folder says.

    What was cut or could not be read is told. Raises ConfigError where nothing could be.
    """
    backbone = Backbone(folder, dtype="auto")
    policy = Policy.load(backbone)
    policy.asking.tell(folder)
    needs = PolicyNeeds(policy.tokenizer, max_positions(backbone))
    asking = policy.asking
    put = Put(asking.apply, asking.chat_template_kwargs) if asking.puts or asking.chat_template_kwargs else None
    encoder = data.encoding.encoder(needs, put)
    found = response_likelihoods(policy, encoder, examples, batch_tokens=data.batching.tokens, name=folder)
    if found.cut or found.dropped:
        why = "; ".join(dict.fromkeys(found.dropped.values()))
        limit = encoder.truncation.max_total
        print(
            f"{folder}: of {len(examples)} rows {found.cut} are longer than {limit} tokens and were cut, "
            f"{len(found.dropped)} could not be read{f' ({why})' if why else ''}",
            file=sys.stderr,
        )
    if len(found.dropped) == len(examples):
        raise ConfigError(f"{folder}: none of {len(examples)} rows can be read ({why})")
    return found
