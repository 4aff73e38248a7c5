"""The parts of a model that see pictures or hear sounds: text never passes them, so they are left as they are."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from align.models.sizes_only import sizes_only
from align.scoring.decoder import decoder, unwrapped


def parts_beside_text(model: nn.Module) -> list[str]:
    """Return the names of the parts that the language model inside a model of pictures and text does without."""
    inner, body = unwrapped(model), decoder(model)
    text = inner.get_decoder()
    if text is body or text not in set(body.modules()):
        return []
    used = set(text.parameters())
    beside = {
        part for part in body.children() if text not in set(part.modules()) and used.isdisjoint(part.parameters())
    }
    return [name for name, part in inner.named_modules() if part in beside]


def freeze_beside_text(model: nn.Module) -> None:
    """Freeze what text never passes: it would never get a gradient, for which processes that train together wait."""
    names, frozen = parts_beside_text(model), 0
    for name, parameter in unwrapped(model).named_parameters():
        if name.startswith(tuple(f"{part}." for part in names)) and parameter.requires_grad:
            parameter.requires_grad_(False)
            frozen += 1
    if frozen and not sizes_only():
        rank_zero_info(f"{', '.join(names)}: {frozen} tensors stay as they are, since text does not pass them")
