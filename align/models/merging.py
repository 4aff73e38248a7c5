"""Adapters added to the weights of a model: compared before and after, on disk, or refused."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities import rank_zero_info
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn

from align.errors import ModelError
from align.models.masters import asked_dtype
from align.models.quantised import is_quantised, on_full_base
from align.models.whole import load_whole
from align.scoring.decoder import unwrapped

TOLERANCE = 1e-3
"""Largest difference of a token's log-probability, in nats, or of a reward, between a model and its merged folder."""
ROW = 128
"""Tokens of the row that is scored."""
Write = Callable[[Any, Path, torch.dtype], None]


def write_merged(model: nn.Module, tokenizer: Any, folder: Path, write: Write) -> None:
    """Write a model with its adapters in its weights, and keep the folder only if it scores a row as the model does.

    Weights have the dtype that was asked for, else the base's; where rounding to 16 bits would show, float32 is
    written, and said.

    Raises ModelError for a folder that differs, of which nothing is left, and where a weight has several adapters.
    """
    _check_shared(model, folder)
    quantised = scores(model, probe_row(model, tokenizer).to(device_of(model))) if is_quantised(model) else None
    if quantised is not None:
        model = on_full_base(model)
    kept = asked_dtype(unwrapped(model)) or next(unwrapped(model).parameters()).dtype
    own = copy.deepcopy(model).cpu().eval()
    own = own if kept == torch.float64 else own.float()  # layers under adapters may be held in 16 bits
    row = probe_row(own, tokenizer)
    expected = scores(own, row)
    if quantised is not None:
        _tell_quantised((quantised.cpu() - expected).abs())
    merged = merge(own)
    found: dict[torch.dtype, float] = {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    for dtype in dict.fromkeys((kept, next(merged.parameters()).dtype)):
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as name:
            part = Path(name)
            write(merged, part, dtype)
            opened, _ = load_whole(type(merged), str(part), dtype=expected.dtype)
            found[dtype] = float((scores(opened, row) - expected).abs().max())
            if found[dtype] <= TOLERANCE:
                _move(part, folder)
                _tell(found, folder)
                return
    raise ModelError(
        f"export {folder}: merged, the model scores a row {found[dtype]:.2g} nats per token (or of reward) apart "
        f"from what it does with its adapters (at most {TOLERANCE:g}): export without merge"
    )


def _check_shared(model: nn.Module, folder: Path) -> None:
    """Raise ModelError where layers share a weight and each has an adapter of its own, as in Zamba's shared blocks."""
    places = {id(_plain(unwrapped(model).get_input_embeddings()).weight): ""}  # a head that it ties is untied
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and not isinstance(layer, ParamWrapper):
            other = places.setdefault(id(_plain(layer).weight), name)
            if other not in ("", name):
                raise ModelError(
                    f"export {folder}: {other} and {name} are one weight under two adapters, which no merged model can "
                    "hold: export without merge"
                )


def _tell_quantised(apart: Tensor) -> None:
    """Say how far an adapter on its base in full precision is from the same on 4 bits, which it was trained on."""
    rank_zero_info(
        f"in full precision a row is {float(apart.mean()):.2g} nats per token (or of reward) apart from what was "
        f"trained on 4 bits, {float(apart.max()):.2g} at most: evaluate the merged model, not the quantised one"
    )


def device_of(model: nn.Module) -> torch.device:
    """Return where a model is."""
    return next(model.parameters()).device


def merge(model: Any) -> Any:
    """Return the model inside with its adapters added up; embeddings that this parts are tied no more."""
    inner = unwrapped(model)
    ends = [_plain(part) for part in (inner.get_input_embeddings(), inner.get_output_embeddings()) if part is not None]
    if len(ends) == 2 and ends[0].weight is ends[1].weight:  # a sum written into the one would be read by the other
        ends[1].weight = nn.Parameter(ends[1].weight.detach().clone(), requires_grad=False)
    configs = (inner.config, inner.config.get_text_config())
    known = [getattr(config, "tie_word_embeddings", False) for config in configs]  # Inkling's text says nothing
    merged = model.merge_and_unload()
    into, out = merged.get_input_embeddings(), merged.get_output_embeddings()
    if out is not None and any(known):
        same = torch.equal(into.weight, out.weight)
        if same:
            out.weight = into.weight
        for config, ties in zip(configs, known, strict=True):
            if ties:
                config.tie_word_embeddings = same
    return merged


def probe_row(model: nn.Module, tokenizer: Any) -> Int[Tensor, "row token"]:
    """Return one row of tokens, added ones among them: those are what adapters of embeddings are trained on."""
    config = unwrapped(model).config.get_text_config()
    length = min(ROW, getattr(config, "max_position_embeddings", None) or ROW)
    draw = torch.Generator().manual_seed(0)
    plain = torch.randint(len(tokenizer), (length,), generator=draw)
    added = torch.tensor(sorted(tokenizer.added_tokens_decoder)[-length // 4 :], dtype=torch.long)
    row = torch.cat([added, plain])[:length]
    return row[torch.randperm(length, generator=draw)][None]


@torch.no_grad()
def scores(model: Any, row: Int[Tensor, "row token"]) -> Float[Tensor, " score"]:
    """Return the log-probability of every token after the first, or the outputs of a reward model."""
    logits = model.eval()(input_ids=row, use_cache=False).logits
    if logits.dim() == 2:
        return logits[0]  # type: ignore[no-any-return]
    return logits.log_softmax(-1)[0, :-1].gather(1, row[0, 1:, None])[:, 0]  # type: ignore[no-any-return]


def _plain(part: Any) -> Any:
    """Return the layer beneath what adapters wrap around it."""
    while (below := getattr(part, "base_layer", None) or getattr(part, "original_module", None)) is not None:
        part = below
    return part


def _move(part: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        os.replace(file, folder / file.name)


def _tell(found: dict[torch.dtype, float], folder: Path) -> None:
    names = [(str(dtype).removeprefix("torch."), difference) for dtype, difference in found.items()]
    rounded = "".join(f", since {name} would move a row by {difference:.2g}" for name, difference in names[:-1])
    name, difference = names[-1]
    rank_zero_info(f"merged into {folder}: {difference:.2g} nats per token apart at most, written in {name}{rounded}")
