"""What draws the samples of a round."""

from __future__ import annotations

from typing import Any

from align.encoding.templates import Template
from align.rounds.settings import RoundSettings
from align.sampling.checked import LocalEngine
from align.sampling.engine import Engine
from align.sampling.logit_mixture import MixtureEngine


def engine_of(module: Any, settings: RoundSettings, template: Template) -> Engine:
    """Return an engine for the policy as it is, or for the policy and its reference together."""
    ends: dict[str, Any] = {"tokenizer": module.tokenizer, "eos_ids": [template.eos_id], "stop": template.stop}
    if settings.mixture is None:
        return LocalEngine(module.model, **ends)
    return MixtureEngine(module.model, module.built_reference, settings.mixture, **ends)
