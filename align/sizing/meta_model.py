"""A module's model as its configuration describes it: every weight has its shape, and none is read or drawn."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from align.models.adapter_folder import ADAPTER_WEIGHTS
from align.models.backbone import Backbone
from align.models.folder_checks import ADAPTER_CONFIG, base_of, local_folder
from align.models.held_short import SHORT, cast_less
from align.sizing.method import SizableMethod


class NoTokenizer:
    """Stands in where a folder has a configuration and no tokenizer: sizes do not depend on it."""

    bos_token = eos_token = unk_token = pad_token = chat_template = None
    pad_token_id = None
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012

    def __len__(self) -> int:
        return 0


def on_meta(module: SizableMethod, asked: Backbone, *, short: bool = False) -> SizableMethod:
    """Return a copy of a module that was not built, with its model on the meta device.

    Args:
        module: A method's module.
        asked: The backbone in the place of its own; it is not quantised, for which there are no weights.
        short: Whether frozen layers are held in bfloat16 where the checkpoint is, as under bf16-mixed.
    """
    own = copy.deepcopy(module)
    own.check_backbone(asked)
    own.backbone = replace(asked, random_init=True, check=False, compile=False, quantization=None)
    if module.backbone.tokenizer is None and not _has_tokenizer(module.backbone.path):
        own.__dict__["tokenizer"] = NoTokenizer()
    with torch.device("meta"):
        own.build_model()
    if short and asked.quantization is None and not asked.random_init:
        cast_less(own.models(), SHORT)
    return own


def has_weights(path: str) -> bool:
    """Tell whether a path leads to weights: a folder without any is known by its configuration."""
    folder = local_folder(path)
    if folder is None or not (folder / ADAPTER_CONFIG).exists():
        return folder is None or any(folder.glob("*.safetensors*"))
    return (folder / ADAPTER_WEIGHTS).exists() and has_weights(base_of(folder))


def _has_tokenizer(path: str) -> bool:
    folder = local_folder(path)
    if folder is None or any(folder.glob("tokenizer*")) or any(folder.glob("vocab*")):
        return True
    return (folder / ADAPTER_CONFIG).exists() and _has_tokenizer(base_of(folder))


def blocks_of(decoder: nn.Module) -> nn.ModuleList:
    """Return a decoder's blocks: its longest list of modules."""
    lists = [part for part in decoder.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len)
