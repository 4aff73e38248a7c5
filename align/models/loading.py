"""Loading a backbone as a policy or as a reward model, from a folder or the hub, with fresh or trained adapters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from align.errors import ModelError
from align.models.adapter_folder import with_trained_adapter
from align.models.backbone import Backbone
from align.models.beside_text import freeze_beside_text
from align.models.causal import causal_class, check_causal, check_type
from align.models.deterministic import make_deterministic, note_rates, switch_off_rates
from align.models.foreign_code import OPTION, may_run_code
from align.models.fresh_adapters import with_lora
from align.models.held_short import CHECKPOINT_DTYPE
from align.models.masters import built_as, make_masters, raise_heads, trains_base
from align.models.packed_attention import use_packed_attention
from align.models.quantised import (
    check_quantised,
    is_quantised,
    loading_options,
    of_bitsandbytes,
    prepare_quantised,
)
from align.models.recomputing import recompute
from align.models.resolving import resolve
from align.models.reward_head import HEAD, check_head, vocabulary_head
from align.models.router_loss import tell_router_loss
from align.models.whole import load_whole, one_line
from align.scoring.decoder import COMPILES, decoder

MAX_LAYERS = 10_000
"""No model has more; building them would take hours before the weights are looked at."""
ATTENTION = "model.backbone.attn_implementation"


def load_policy(backbone: Backbone, tokenizer: Any, *, masters: bool = False) -> nn.Module:
    """Return a causal language model in train mode, with its adapters.

    `masters` keeps in float32 what is trained, whatever the backbone's dtype.

    Raises ModelError for a folder, weights or tokenizer that do not fit together.
    """
    base, adapter = resolve(backbone, "CAUSAL_LM")
    config = _config(base, backbone)
    left = check_type(config, base)
    check_quantised(backbone, adapter, config, trained=masters)
    model, _ = _build(causal_class(config), base, built_as(backbone, adapter, masters=masters), config, left=left)
    check_causal(model, base)
    tell_router_loss(config)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {rows} rows: they do not belong together"
        )
    return _prepare(model, backbone, adapter, "CAUSAL_LM", masters)


def load_reward_model(
    backbone: Backbone,
    tokenizer: Any,
    labels: list[str],
    pad_token: str | None,
    *,
    zero_head: bool = False,
    masters: bool = False,
) -> nn.Module:
    """Return a sequence classifier with one output per label; a causal model without a head gets a fresh one.

    `pad_token` None adds a `<pad>` token to tokenizer and embedding. `zero_head` starts a fresh head at 0. `masters`
    keeps in float32 what is trained.
    """
    base, adapter = resolve(backbone, "SEQ_CLS")
    config = _config(base, backbone)
    check_quantised(backbone, adapter, config, trained=masters)
    trained = any("SequenceClassification" in name for name in config.architectures or [])
    if trained and config.num_labels != len(labels):
        found = ", ".join(map(str, config.id2label.values()))
        raise ModelError(
            f"backbone {base}: a reward model with {config.num_labels} outputs, expected {len(labels)} (found {found}; "
            f"expected {', '.join(labels)})"
        )
    config.num_labels = len(labels)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    with one_line(base):
        check_head(base, config)
    read_as = built_as(backbone, adapter, masters=masters)
    fresh: dict[str, Any] = {} if trained else {"fresh": HEAD, "left": vocabulary_head(config)}
    model, drawn = _build(AutoModelForSequenceClassification, base, read_as, config, **fresh)
    if drawn:
        width = config.get_text_config().hidden_size
        nn.init.normal_(model.score.weight, std=0.0 if zero_head else (width + 1) ** -0.5)
    tokenizer.pad_token = pad_token or "<pad>"  # assigning an unknown token adds it
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return _prepare(model, backbone, adapter, "SEQ_CLS", masters)


def load_part(auto: Any, backbone: Backbone) -> Any:
    """Return the base model of a backbone as another class of transformers sees it, without adapters."""
    base, _ = resolve(backbone)
    return _build(auto, base, backbone, _config(base, backbone))[0]


def _config(base: str, backbone: Backbone) -> Any:
    trusted, own = may_run_code(base, backbone.revision), backbone.attn_implementation
    with one_line(base):
        config = AutoConfig.from_pretrained(base, revision=backbone.revision, trust_remote_code=trusted)
    if (layers := getattr(config.get_text_config(), "num_hidden_layers", None) or 0) > MAX_LAYERS:
        raise ModelError(f"{base}: num_hidden_layers is {layers} in its config.json: fetch it again")
    for place, name in ((f"{base}: attn_implementation", config._attn_implementation), (ATTENTION, own)):
        if "/" in str(name) and not trusted:
            raise ModelError(
                f"{place} {name!r} is a kernel of the hub, which is code of others: take sdpa, or give {OPTION} on the "
                "command line"
            )
    return config


def _build(
    auto: Any,
    base: str,
    backbone: Backbone,
    config: Any,
    *,
    fresh: Collection[str] = (),
    left: Callable[[str], bool] | None = None,
) -> tuple[Any, bool]:
    """Return a model, and whether its fresh part was drawn at random."""
    written = config.get_text_config().dtype or config.dtype  # before it is that of the model
    options: dict[str, Any] = {"dtype": backbone.torch_dtype}
    if backbone.attn_implementation != "auto":
        options["attn_implementation"] = backbone.attn_implementation
    rates = switch_off_rates(config, dropout=backbone.dropout)
    if backbone.random_init:
        with one_line(base):
            trusted = may_run_code(base, backbone.revision)
            model, drawn = auto.from_config(config, trust_remote_code=trusted, **options), True
    else:
        options |= {"revision": backbone.revision, "config": config, **loading_options(backbone, config)}
        model, drawn = load_whole(auto, base, fresh=fresh, left=left, **options)
    if backbone.quantization is not None or is_quantised(model):
        prepare_quantised(model, read_so=backbone.quantization is None)
    if not backbone.dropout:
        make_deterministic(model)
    note_rates(model, rates)
    setattr(model, CHECKPOINT_DTYPE, written)
    return model, drawn


def _prepare(model: Any, backbone: Backbone, adapter: Path | None, task: str, masters: bool) -> nn.Module:
    if backbone.attn_implementation != "sdpa":
        use_packed_attention(model, backbone.attn_implementation)
    freeze_beside_text(model)
    if masters and trains_base(backbone, adapter):
        make_masters(model, backbone)
    if adapter is not None:
        freeze_beside_text(model := with_trained_adapter(model, adapter))
    elif backbone.lora is not None:
        model = with_lora(model, backbone.lora, task, check=backbone.check)
    if masters:
        raise_heads(model)
    recompute(model, backbone)
    setattr(decoder(model), COMPILES, backbone.compile)
    model.train()
    return model  # type: ignore[no-any-return]


def held_by_bitsandbytes(backbone: Backbone) -> bool:
    """Tell whether a backbone's weights are held in few bits, by bitsandbytes."""
    base, _ = resolve(backbone)
    return of_bitsandbytes(backbone, _config(base, backbone))


def max_positions(backbone: Backbone) -> int:
    """Return the longest sequence the model takes, in tokens; a large number where it has no limit."""
    base, _ = resolve(backbone)
    limit = getattr(_config(base, backbone).get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else 10**9


def pad_token(backbone: Backbone) -> int | None:
    """Return the padding token a model's configuration names."""
    base, _ = resolve(backbone)
    return _config(base, backbone).get_text_config().pad_token_id  # type: ignore[no-any-return]
