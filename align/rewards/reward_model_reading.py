"""Where a reward model is read and what its outputs are called, and scores that are no numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig

from align.errors import ModelError, shorten
from align.models.folder_checks import ADAPTER_CONFIG, local_folder, read_json
from align.models.foreign_code import may_run_code, refuse_code
from align.models.reward_file import (
    REWARD_FILE,
    Reading,
    read_reward_file,
)
from align.records import Message


def usual_reading(path: str, tokenizer: Any) -> Reading:
    """Return, and tell, where a model that does not say so is read: as RewardBench reads it, or at the turn's end."""
    from lightning.pytorch.utilities import rank_zero_info

    reading: Reading = "template" if tokenizer.chat_template else "turn_end"
    where = "the last token of its rendered chat template" if tokenizer.chat_template else "the end of the turn"
    rank_zero_info(
        f"reward model {path}: no {REWARD_FILE}, so its reward is read at {where} ({reading!r}; a {REWARD_FILE} "
        'with {"reading": "turn_end"} or "template" beside the weights says otherwise)'
    )
    return reading


def refuse_not_finite(
    model: str,
    attributes: Sequence[str],
    prompts: Sequence[Sequence[Message]],
    scores: Float[Tensor, "response attribute"],
) -> None:
    """Raise ModelError naming model, output and prompt of the first score that is not finite."""
    if scores.isfinite().all():
        return
    row, column = (~scores.isfinite()).nonzero()[0].tolist()
    asked = shorten(prompts[row][-1].content if prompts[row] else "", 60)
    raise ModelError(
        f"{model}: {attributes[column]} is {float(scores[row, column])} for a response to {asked!r}: its weights are "
        "damaged, or too large for their dtype"
    )


def outputs_of(path: str) -> tuple[str, ...]:
    """Return the outputs of a reward model by its files alone. Raises ModelError for a folder that is none."""
    rescaling = read_reward_file(path)
    return tuple(rescaling.attributes) if rescaling else output_names(path)


def output_names(path: str) -> tuple[str, ...]:
    """Return the outputs of a reward model without a file of their meaning. Raises ModelError for another model."""
    folder = local_folder(path)
    if folder is not None and (folder / ADAPTER_CONFIG).exists():
        task = read_json(folder / ADAPTER_CONFIG).get("task_type")
        if task != "SEQ_CLS":
            raise ModelError(f"{path}: an adapter for {task}, expected a reward model (SEQ_CLS)")
        return ("reward",)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=may_run_code(path))
    except (OSError, ValueError) as error:
        refuse_code(path, error)
        raise ModelError(
            f"reward model {path}: cannot be loaded ({shorten(error, 200)}): check the spelling, or give a folder"
        ) from error
    if not any("SequenceClassification" in name for name in config.architectures or []):
        found = ", ".join(config.architectures or ["nothing"])
        raise ModelError(f"{path}: {found} has no reward head, expected a folder that RewardModel or the hub exports")
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))
