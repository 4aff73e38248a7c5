"""How prompts are asked whose responses `align predict` scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_only

from align.errors import ConfigError
from align.models.asked import PLAIN, ModelAsking, asking, asking_of

if TYPE_CHECKING:
    from align.training.built_module import BuiltModule


def asking_of_predictions(module: BuiltModule, *, loaded: bool, views: bool) -> ModelAsking:
    """Return how a model is asked as its checkpoint says, or its folder where no checkpoint was loaded, and tell it.

    Args:
        module: Its module; `module.ask` is what the user wants otherwise.
        loaded: Whether there was a checkpoint.
        views: Whether the rows bring what they were put under, as those of Chain of Hindsight do.

    Raises ConfigError for another asking where it would be put beside one that is there already.
    """
    given = next(iter(module.ask.given()), None)
    if not module.generates or module.predicts_asked or views:
        if given is not None:
            why = "the data's view" if views and module.generates else type(module).__name__
            raise ConfigError(
                f"align.callbacks.predictions.PredictionFile.ask.{given}: {why} says what prompts are put under: "
                "leave it out"
            )
        return PLAIN
    found = asking(module.form, module.ask) if loaded else asking_of(module.backbone.path, module.ask)
    if found.steer is not None and found.steer.where != "all":
        raise ConfigError(
            f"where {found.steer.where}: responses are scored in one pass, where all positions are steered: set "
            "align.callbacks.predictions.PredictionFile.ask.where all, or ask.plain true"
        )
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        found.tell(module.backbone.path)
    return found
