"""A frozen base in 4 bits under adapters (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), by bitsandbytes.

Linear layers of the decoder are held in NF4 with their scales quantised too; heads, embeddings and norms are not, and
norms are float32 inside. As in the paper, everything is computed in the dtype of the backbone.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from align.errors import ConfigError
from align.models.adapter_folder import STARTS_TRAINED
from align.models.backbone import Backbone, LoRA
from align.models.masters import trains_base
from align.models.whole import load_whole
from align.scoring.decoder import unwrapped

SETTING = "backbone.quantization"
WHOLE = ["lm_head", "score"]
"""Layers that stay as they are."""
READ_SO = "read_in_few_bits"
"""Where a model keeps that its folder has no weights in full precision."""


def check_quantised(backbone: Backbone, adapter: Path | None, config: Any, *, trained: bool) -> None:
    """Raise ConfigError for a base in few bits whose own weights are to be trained, or that nothing quantises."""
    own = getattr(config, "quantization_config", None) is not None
    if backbone.quantization is None and not own:
        return
    named = f"{SETTING} {backbone.quantization}" if not own else f"backbone.path {backbone.path}: a quantised model"
    if own and backbone.quantization is not None:
        raise ConfigError(f"{named} already: leave {SETTING} out")
    if _settings(config).get("load_in_8bit"):
        raise ConfigError(
            f"{named} in 8 bits (LLM.int8), where passes that train compute otherwise than those that score, so that "
            f"a reference is not the policy's start: take the model in full precision, and {SETTING} nf4"
        )
    _check_adapters(backbone.lora, named)
    if trained and trains_base(backbone, adapter):
        raise ConfigError(
            f"{named}: full fine-tuning of a quantised base is not possible, its weights have no gradients: set "
            "backbone.lora, or take the base in full precision"
        )
    if backbone.random_init:
        raise ConfigError(f"{named} needs weights to quantise, and backbone.random_init leaves them out")
    if of_bitsandbytes(backbone, config) and find_spec("bitsandbytes") is None:
        raise ConfigError(f"{named} needs bitsandbytes: pip install 'align-lm[quantization]' -c constraints.txt")


def _check_adapters(lora: LoRA | None, named: str) -> None:
    for setting, what in (("modules_to_save", "trains copies of layers"), ("init_lora_weights", "changes its weights")):
        if getattr(lora, setting, None):
            raise ConfigError(f"{named}: backbone.lora.{setting} {what}: leave either out")


def of_bitsandbytes(backbone: Backbone, config: Any) -> bool:
    """Tell whether bitsandbytes holds a base, because it was asked to or by the base's own configuration."""
    return backbone.quantization is not None or _settings(config).get("quant_method") == "bitsandbytes"


def _settings(config: Any) -> dict[str, Any]:
    found = getattr(config, "quantization_config", None)
    settings: dict[str, Any] = found if isinstance(found, dict) else {} if found is None else found.to_dict()
    return settings


def loading_options(backbone: Backbone, config: Any) -> dict[str, Any]:
    """Return what transformers is told to quantise a base while it is read; nothing for one that is not."""
    if backbone.quantization is None:
        return {}
    from transformers import BitsAndBytesConfig

    named = backbone.torch_dtype
    computed = getattr(config, "dtype", None) or torch.float32 if isinstance(named, str) else named
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=backbone.quantization,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=computed,
            llm_int8_skip_modules=WHOLE,
        )
    }


def prepare_quantised(model: nn.Module, *, read_so: bool) -> None:
    """Make float32 of norms, and keep bitsandbytes from repacking weights.

    `read_so` says that the folder has no weights in full precision, which is noted.

    On a CPU with AVX512 its layers change their weights at the first pass in evaluation mode, for good, with scales
    rounded to bfloat16: what is scored afterwards would be another model.
    """
    setattr(model, READ_SO, read_so)
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            vars(part)["support_avx512bf16_for_cpu"] = False
        own = list(part.parameters(recurse=False))
        if own and all(p.dim() == 1 and p.is_floating_point() for p in own):
            part.float().register_forward_hook(_as_given)


def keep_states(model: nn.Module, device: str) -> None:
    """Let layers in 4 bits keep beside their weights, which are about to be sharded, what unpacks them.

    A shard is a part of the packed bytes, and what unpacks them stays whole on every process (scales, an eighth of a
    bit of a weight). bitsandbytes takes it from the layer where a gathered weight has none.
    """
    for part in model.modules():
        weight = part._parameters.get("weight")
        if (state := getattr(weight, "quant_state", None)) is not None:
            state.to(device)
            part.quant_state = state


def _as_given(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
    return made.to(given[0].dtype)


def is_quantised(model: nn.Module) -> bool:
    """Tell whether a model's base is held in 4 bits."""
    return bool(getattr(unwrapped(model), "is_loaded_in_4bit", False))


def parameters_of(parameter: nn.Parameter) -> int:
    """Return how many numbers a parameter stands for: two to a byte where it has 4 bits."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def on_full_base(model: Any) -> Any:
    """Return the same adapter on its base in full precision, read anew; it is told how far the two are apart later.

    Raises ConfigError for a base that was in 4 bits when it was read.
    """
    inner = unwrapped(model)
    if getattr(inner, READ_SO, False):
        raise ConfigError(
            f"{inner.name_or_path} has its weights in 4 bits only: export the adapter without merge, and merge it into "
            "the model that those were made of (base_model_name_or_path in its adapter_config.json)"
        )
    path, dtype = inner.name_or_path, next(p.dtype for p in inner.parameters() if p.dim() > 1 and p.is_floating_point())
    config = copy.deepcopy(inner.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    commit = getattr(config, "_commit_hash", None)
    base, _ = load_whole(type(inner), path, dtype=dtype, config=config, revision=commit, **_fresh(model))
    kind = type(model)
    whole = kind(base, copy.deepcopy(model.peft_config["default"]), "default")
    own = {name: value for name, value in model.state_dict().items() if _adapts(name)}
    found = whole.load_state_dict(own, strict=False)
    assert not found.unexpected_keys
    whole.to(next(model.parameters()).device).eval()
    setattr(whole, STARTS_TRAINED, True)
    rank_zero_info(f"merged into {path} in full precision ({str(dtype).removeprefix('torch.')}), not into its 4 bits")
    return whole


def _fresh(model: nn.Module) -> dict[str, Any]:
    """Return what a reward head is: the trained copy of it comes with the adapter."""
    return {"fresh": ["score.weight"]} if hasattr(unwrapped(model), "score") else {}


def _adapts(name: str) -> bool:
    return ".default." in name or name.endswith(".default")
