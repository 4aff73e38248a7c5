"""Where a decoder keeps its blocks, its attention projections and its positions, told by structure."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from torch import nn

from align.errors import ModelError

BLOCKS = (
    "model.layers",
    "transformer.h",
    "gpt_neox.layers",
    "model.decoder.layers",
    "model.language_model.layers",
    "model.text_model.layers",
    "backbone.layers",
    "backbone.blocks",
    "transformer.blocks",
    "biogpt.layers",
    "gpt_neox_japanese.layers",
)
"""Llama, Mistral, Qwen2, Gemma and their kin; GPT-2; GPT-NeoX and Pythia; OPT; the text of Gemma 3, 4 and SmolVLM;
Mamba; xLSTM; MPT and DBRX; two that name the list after themselves."""
ATTENTION = (
    *(("q_proj", "v_proj"), ("c_attn",), ("query_key_value",), ("qkv_proj",), ("Wqkv",)),
    *(("q_b_proj", "kv_b_proj"), ("q_proj", "kv_b_proj")),
)
"""Query and value projections; GPT-2, GPT-NeoX, Phi-3, DBRX fuse them with keys; DeepSeek's come out of a latent."""
ABSOLUTE = ("wpe", "embed_positions", "positions_embed")
"""Tables of learned positions: where a response begins changes its states."""


class DecoderParts(NamedTuple):
    """The parts of a decoder that representation methods touch."""

    owner: nn.Module
    """The module that runs the blocks."""
    name: str
    """Name of the list of blocks in it."""
    path: str
    """Name of that list in the whole model."""
    attention: tuple[str, ...]
    """Names of the linear layers that hold query and value projections; empty where no block has them, as in Mamba."""
    absolute_positions: bool
    """Whether positions are learned, so that only equal positions give equal states."""

    @property
    def takes_positions(self) -> bool:
        """Whether the decoder can be told positions; BART's and its kin count them by themselves."""
        return "position_ids" in inspect.signature(self.owner.forward).parameters

    @property
    def blocks(self) -> nn.ModuleList:
        """Return the blocks as they are now."""
        found: nn.ModuleList = getattr(self.owner, self.name)
        return found


def decoder_parts(model: nn.Module) -> DecoderParts:
    """Find the parts of a model, also inside PEFT adapters.

    Raises ModelError for a family without a list of blocks, saying what is needed.
    """
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    for path in BLOCKS:
        owner_path, _, name = path.rpartition(".")
        owner = _get(inner, owner_path)
        blocks = getattr(owner, name, None)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            continue
        assert owner is not None
        inside = {part.rpartition(".")[2] for part, _ in blocks.named_modules()}  # not every block of a hybrid attends
        attention = next((names for names in ATTENTION if inside.issuperset(names)), ())
        learned = any(isinstance(getattr(owner, table, None), nn.Module) for table in ABSOLUTE)
        return DecoderParts(owner, name, path, attention, learned)
    raise ModelError(
        f"backbone family {getattr(inner.config, 'model_type', type(inner).__name__)!r} is not known to representation "
        f"methods: they need a list of blocks ({', '.join(BLOCKS)}), and adapters on its query and value projections "
        f"({' or '.join('+'.join(names) for names in ATTENTION)}) or on layers that backbone.lora.target_modules names"
    )


def _get(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module
