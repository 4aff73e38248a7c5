"""Which model a method trains, and how: the one argument every module takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from align.errors import ConfigError

DTypeName = Literal["float32", "bfloat16", "float16", "float64", "auto"]


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters on a frozen model (Hu et al. 2021, arXiv:2106.09685); names as in PEFT."""

    r: int = 16
    """Rank."""
    lora_alpha: float = 32.0
    """Updates are scaled by lora_alpha / r."""
    lora_dropout: float = 0.0
    """Dropout on the adapters' input."""
    target_modules: str | list[str] = "all-linear"
    """Layers that get an adapter: names, a pattern, or every linear layer but the head."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732)."""
    use_dora: bool = False
    """Train magnitudes beside directions (DoRA, Liu et al. 2024, arXiv:2402.09353)."""
    modules_to_save: list[str] | None = None
    """Layers trained whole beside the adapters, as copies."""
    target_parameters: list[str] | None = None
    """Parameters that are no layer's weight and get an adapter, such as experts: `mlp.experts.gate_up_proj`."""
    init_lora_weights: str | None = None
    """`pissa` starts from the largest singular values of the base (PiSSA, Meng et al. 2024, arXiv:2404.02948),
    `pissa_niter_16` by 16 fast iterations; null starts from no change. Exports are plain LoRA of twice the rank."""

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigError(f"backbone.lora.r must be at least 1, got {self.r}")
        if not self.lora_alpha > 0:
            raise ConfigError(
                f"backbone.lora.lora_alpha must be above 0, got {self.lora_alpha}: nothing would be trained"
            )
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"backbone.lora.lora_dropout must lie in [0, 1), got {self.lora_dropout}")
        self._check_start()

    def _check_start(self) -> None:
        start = self.init_lora_weights
        if start is None:
            return
        named = f"backbone.lora.init_lora_weights {start!r}"
        if re.fullmatch(r"pissa(_niter_[1-9]\d*)?", start) is None:
            raise ConfigError(f"{named}: expected pissa, pissa_niter_N with N iterations, or null")
        if self.use_dora or self.target_parameters:
            other = "use_dora" if self.use_dora else "target_parameters"
            raise ConfigError(f"{named} is for plain adapters of linear layers: leave backbone.lora.{other} out")

    @property
    def as_peft(self) -> dict[str, Any]:
        """Return the settings as PEFT's own configuration takes them."""
        return {
            "r": self.r,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "target_modules": self.target_modules,
            "use_rslora": self.use_rslora,
            "use_dora": self.use_dora,
            "modules_to_save": self.modules_to_save,
            "target_parameters": self.target_parameters,
            "init_lora_weights": self.init_lora_weights or True,
        }


TRAINING = ("lora", "gradient_checkpointing", "dropout", "layout", "logit_bytes", "compile")
"""What only matters to a model that is trained."""


@dataclass(frozen=True)
class Backbone:
    """A causal language model, its tokenizer, and how it runs."""

    path: str
    """Model folder, adapter folder (training goes on from it), or hub id."""
    dtype: DTypeName = "float32"
    """Dtype of the weights; `auto` keeps the checkpoint's. For mixed precision keep float32, set trainer.precision."""
    lora: LoRA | None = None
    """Train adapters and freeze the model; null trains all weights."""
    quantization: Literal["nf4"] | None = None
    """Hold the frozen model's linear layers in 4 bits, their scales in 8 (QLoRA, by bitsandbytes); needs adapters."""
    attn_implementation: str = "auto"
    """`auto` (scaled dot products; in packed rows flash kernels, and FlexAttention on a GPU for windows, soft caps and
    sinks), `flex_attention` (it computes all packed rows, on a CPU slowly), or another name known to transformers."""
    gradient_checkpointing: bool | Literal["selective"] = False
    """Compute activations again in the backward pass: about a third slower, far less memory. `selective` keeps what
    linear layers and attention give: hardly slower, half of the memory where all weights are trained."""
    dropout: bool = False
    """Keep the dropout of the model's configuration; false switches it off."""
    layout: Literal["auto", "packed", "shared", "padded"] = "auto"
    """How candidate groups are laid out; `auto` takes the fastest exact one."""
    compile: bool = False
    """Compile the decoder with torch.compile, whatever the lengths: a minute at the start, faster steps on a GPU."""
    logit_bytes: int = 2**30
    """Logits are computed in tiles when they would take more bytes than this."""
    random_init: bool = False
    """Ignore the weights and start from random ones (the folder needs config.json and a tokenizer)."""
    revision: str | None = None
    """Commit of a hub repository."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; null takes the model's own."""
    chat_template: str | None = None
    """A Jinja file that replaces the tokenizer's chat template."""
    check: bool = True
    """Compare scores, gradients and samples with plain forward passes of transformers before they are used."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("model.backbone.path is empty: give a model folder or a hub id")
        if self.logit_bytes < 1:
            raise ConfigError(f"backbone.logit_bytes must be positive, got {self.logit_bytes}")

    def only_asked(self, place: str) -> Backbone:
        """Return this. Raises ConfigError for a setting of training, which nobody reads where a model is only asked."""
        for setting in fields(self):
            if setting.name in TRAINING and getattr(self, setting.name) != setting.default:
                raise ConfigError(f"{place}.{setting.name} belongs to training, this model is only asked: leave it out")
        return self

    @property
    def torch_dtype(self) -> torch.dtype | str:
        """Return the dtype as transformers takes it."""
        return "auto" if self.dtype == "auto" else getattr(torch, self.dtype)
