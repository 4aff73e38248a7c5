"""A policy that lies in a folder, drawn from by continuous batching of transformers."""

from __future__ import annotations

from align.evaluation.policy import Policy
from align.evaluation.served_policy import check_unsteered
from align.models.backbone import Backbone
from align.sampling.continuous_batching import ContinuousBatching, MeasuredContinuous
from align.sampling.engine_difference import EngineDifference
from align.sampling.generation import Generation


def continuous(policy: Policy, backbone: Backbone, settings: Generation) -> MeasuredContinuous:
    """Return the engine, whose first samples are compared with our scorer. Raises ConfigError for a steered model."""
    check_unsteered(policy.asking, backbone.path, "--engine continuous")
    kind = ContinuousBatching()
    difference = EngineDifference(policy.model, settings, kind.most_difference, backbone)
    ends = (policy.tokenizer, policy.eos_ids, policy.encoder.template.stop)
    return MeasuredContinuous(policy.model, *ends, difference=difference, together=kind.together)
