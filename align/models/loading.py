"""Loading a backbone as a policy or as a reward model, from a folder or the hub, with fresh or trained adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peft
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from align.errors import ConfigError, ModelError, shorten
from align.models.attention import use_segment_attention
from align.models.backbone import Backbone, LoRA
from align.models.files import ADAPTER_CONFIG, check_base, check_safetensors, check_weights, local_folder, read_json

REFERENCE_ADAPTER = "reference"
"""Name of the frozen copy of the adapter a run starts from."""


def load_policy(backbone: Backbone, tokenizer: Any) -> nn.Module:
    """Return a causal language model in train mode, with its adapters.

    Raises ModelError for a folder, weights or tokenizer that do not fit together.
    """
    base, adapter = _resolve(backbone)
    config = _config(base, backbone)
    model = _build(AutoModelForCausalLM, base, backbone, config)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {rows} rows: they do not belong together"
        )
    return _prepare(model, backbone, adapter, "CAUSAL_LM")


def load_reward_model(
    backbone: Backbone, tokenizer: Any, labels: list[str], pad_token: str | None, *, zero_head: bool = False
) -> nn.Module:
    """Return a sequence classifier with one output per label; a causal model gets a fresh head.

    `pad_token` None adds a `<pad>` token to tokenizer and embedding. `zero_head` starts a fresh head at 0.
    """
    base, adapter = _resolve(backbone)
    config = _config(base, backbone)
    trained = any("SequenceClassification" in name for name in config.architectures or [])
    if trained and config.num_labels != len(labels):
        found = ", ".join(map(str, config.id2label.values()))
        raise ModelError(
            f"backbone {base}: a reward model with {config.num_labels} outputs, expected {len(labels)} (found {found}; "
            f"expected {', '.join(labels)})"
        )
    config.num_labels = len(labels)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    model = _build(AutoModelForSequenceClassification, base, backbone, config)
    if not trained:
        width = config.get_text_config().hidden_size
        nn.init.normal_(model.score.weight, std=0.0 if zero_head else (width + 1) ** -0.5)
    tokenizer.pad_token = pad_token or "<pad>"  # assigning an unknown token adds it
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    return _prepare(model, backbone, adapter, "SEQ_CLS")


def load_part(auto: Any, backbone: Backbone) -> Any:
    """Return the base model of a backbone as another class of transformers sees it, without adapters."""
    base, _ = _resolve(backbone)
    return _build(auto, base, backbone, _config(base, backbone))


def describe(model: nn.Module) -> str:
    """Return one line on size, trainable share, dtype and mode."""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()})
    mode = "train" if model.training else "eval"
    share = f"{trainable:,} of {total:,} parameters trained ({100 * trainable / total:.1f} %)"
    return f"{share}, {' and '.join(dtypes)}, {mode} mode"


def _resolve(backbone: Backbone) -> tuple[str, str | None]:
    """Return the base model's path and the adapter folder to go on from, if the backbone names one."""
    folder = local_folder(backbone.path)
    if folder is None or not (folder / ADAPTER_CONFIG).exists():
        if folder is not None and not backbone.random_init:
            _config_exists(folder)
            check_weights(folder)
            check_base(folder)
        return str(folder or backbone.path), None
    if backbone.lora is not None:
        raise ConfigError(
            f"backbone.path {folder} is an adapter, which brings its own rank and targets: leave backbone.lora out to "
            "train it on, or merge it first with `align export --merge`"
        )
    check_safetensors(folder / "adapter_model.safetensors")
    base = read_json(folder / ADAPTER_CONFIG)["base_model_name_or_path"]
    inner = local_folder(base)
    if inner is not None:
        check_weights(inner)
    return base, str(folder)


def _config_exists(folder: Any) -> None:
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: no config.json, so this is not a model folder")
    read_json(folder / "config.json")


def _config(base: str, backbone: Backbone) -> Any:
    with _one_line(base):
        return AutoConfig.from_pretrained(base, revision=backbone.revision, trust_remote_code=False)


def _switch_off_dropout(config: Any) -> dict[str, float]:
    """Set every dropout of a configuration to 0 and return what it was, for the export."""
    rates = {k: v for k, v in config.to_dict().items() if ("drop" in k) and isinstance(v, float)}
    for key in rates:
        setattr(config, key, 0.0)
    return rates


def _build(auto: Any, base: str, backbone: Backbone, config: Any) -> Any:
    options: dict[str, Any] = {"dtype": backbone.torch_dtype}
    if backbone.attn_implementation != "auto":
        options["attn_implementation"] = backbone.attn_implementation
    rates = {} if backbone.dropout else _switch_off_dropout(config)
    with _one_line(base):
        if backbone.random_init:
            model = auto.from_config(config, **options)
        else:
            options |= {"revision": backbone.revision, "use_safetensors": True, "trust_remote_code": False}
            model = auto.from_pretrained(base, config=config, **options)
    model.original_dropout = rates
    return model


def _prepare(model: Any, backbone: Backbone, adapter: str | None, task: str) -> nn.Module:
    if backbone.attn_implementation == "auto":
        use_segment_attention(model)
    if adapter is not None:
        model = _with_trained_adapter(model, adapter)
    elif backbone.lora is not None:
        model = _with_lora(model, backbone.lora, task)
    if backbone.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model  # type: ignore[no-any-return]


def _with_lora(model: Any, lora: LoRA, task: str) -> Any:
    settings = peft.LoraConfig(
        task_type=task,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"backbone.lora.target_modules {lora.target_modules!r}: {shorten(error, 160)}") from error


def _with_trained_adapter(model: Any, adapter: str) -> Any:
    """Load an adapter to train on, and a frozen copy of it under the name `reference`."""
    try:
        model = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)
        model.load_adapter(adapter, adapter_name=REFERENCE_ADAPTER, is_trainable=False)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"adapter {adapter}: does not fit its base model ({shorten(error, 160)})") from error
    model.set_adapter("default")
    return model


@contextmanager
def _one_line(base: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, torch.OutOfMemoryError) as error:
        raise ModelError(
            f"backbone path {base}: cannot be loaded ({shorten(error, 200)}): check the spelling, or give a folder"
        ) from error


def max_positions(backbone: Backbone) -> int:
    """Return the longest sequence the model takes, in tokens; a large number where it has no limit."""
    base, _ = _resolve(backbone)
    limit = getattr(_config(base, backbone).get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else 10**9
