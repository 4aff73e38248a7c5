"""Fresh LoRA adapters on a model that has just been loaded."""

from __future__ import annotations

import re
from typing import Any

import peft

from align.errors import ConfigError, ModelError, shorten
from align.models.backbone import LoRA
from align.models.principal_start import with_principal_start
from align.models.unadapted import unadapted


def with_lora(model: Any, lora: LoRA, task: str, *, check: bool) -> Any:
    """Return the model under fresh adapters; `check` compares it with what it was where those change its base.

    Raises ConfigError for layers that are not there, ModelError for a start that would change the model.
    """
    try:
        left_out = unadapted(model, lora.target_modules) or None
        config = peft.LoraConfig(task_type=task, **lora.as_peft, exclude_modules=left_out)
        if lora.init_lora_weights is not None:
            return with_principal_start(model, config, check=check)
        return peft.get_peft_model(model, config)
    except (ConfigError, ModelError):
        raise
    except (ValueError, re.error) as error:
        named = f"target_modules {lora.target_modules!r}"
        if lora.target_parameters:
            named += f" and target_parameters {lora.target_parameters!r}"
        raise ConfigError(f"backbone.lora.{named}: {shorten(error, 160)}") from error
