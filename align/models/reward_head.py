"""The head of a reward model as transformers keeps it: one linear layer, read at the last token."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, get_model_conversion_mapping
from transformers.modeling_layers import GenericForSequenceClassification

from align.errors import ModelError
from align.models.beside_text import parts_beside_text
from align.models.causal import causal_class

HEAD = ("score.weight",)
"""What a causal language model lacks to be a reward model."""


def check_head(path: str, config: Any) -> None:
    """Raise ModelError for an architecture without a classifier that is a linear layer on the last token."""
    if not offer_classifier(config):
        raise ModelError(
            f"{path}: transformers has no sequence classifier of model type {config.model_type}, expected one with "
            f"{HEAD[0]}: take another model as reward model (as a policy this one may do)"
        )
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    own = _beside_decoder(classifier)
    if own != HEAD:
        raise ModelError(
            f"{path}: {type(classifier).__name__} classifies by {', '.join(own) or 'no weights of its own'}, expected "
            f"{HEAD[0]} at the last token of a causal model: an encoder cannot be a reward model here (it can score "
            "texts as a TextClassifier)"
        )


def offer_classifier(config: Any) -> bool:
    """Give transformers, in this process, a sequence classifier of a causal model type that it has none of.

    It is the generic one from which transformers makes its own (`GenericForSequenceClassification`). Returns whether
    there is one now: not for encoder-decoders, for state space models without a usual cache, for models
    that keep values which are in no file and which a class of another name may not get right, nor for those whose
    files transformers reads by the name of their class (Qwen2-VL).
    """
    auto, kind = AutoModelForSequenceClassification, type(config)
    if kind in auto._model_mapping:
        return True
    if kind not in causal_class(config)._model_mapping or kind not in AutoModel._model_mapping:
        return False
    with torch.device("meta"):
        causal = causal_class(config).from_config(config, trust_remote_code=False)
    decoders = [(n, part) for n, part in causal.named_children() if type(part) is AutoModel._model_mapping[kind]]
    by_name = get_checkpoint_conversion_mapping(type(causal).__name__) is not None
    if by_name or len(decoders) != 1 or not _is_usual(causal, decoders[0][1]):
        return False
    parent = next(c for c in type(causal).__mro__[1:] if issubclass(c, PreTrainedModel))
    names = {"base_model_prefix": decoders[0][0], "config_class": kind, "__module__": type(causal).__module__}
    name = type(causal).__name__.partition("For")[0] + "ForSequenceClassification"
    auto.register(kind, type(name, (_Offered, parent), names), exist_ok=True)
    rank_zero_warn(
        f"transformers has no sequence classifier of model type {config.model_type}: {name} is made of its generic "
        "one; folders of it open here, and elsewhere by the lines in their README.md"
    )
    return True


class _Offered(GenericForSequenceClassification):  # type: ignore[misc]
    """Marks what `offer_classifier` made."""


def opened_by(model: nn.Module, *, adapters: bool = False) -> str:
    """Return what a card says of a classifier that transformers has no class of by itself, else nothing."""
    if not isinstance(model, _Offered):
        return ""
    made: Any = next(c for c in type(model).__mro__ if _Offered in c.__bases__)  # beneath what sharding makes of it
    name, parent, whole = made.__name__, made.__bases__[1], f'model = {made.__name__}.from_pretrained(".")'
    imports = "import peft\nimport transformers\n" if adapters else ""
    if adapters:
        base, outputs, pad = repr(model.name_or_path), model.config.num_labels, model.config.pad_token_id
        whole = f"""config = transformers.AutoConfig.from_pretrained({base}, num_labels={outputs})
config.get_text_config().pad_token_id = {pad}
model = peft.PeftModel.from_pretrained({name}.from_pretrained({base}, config=config), ".")"""
    return f"""
## Opening it without align

transformers has no sequence classifier of model type {model.config.model_type}. These lines make one that
opens this folder:

```python
{imports}from transformers.modeling_layers import GenericForSequenceClassification
from {parent.__module__} import {parent.__name__}


class {name}(GenericForSequenceClassification, {parent.__name__}):
    base_model_prefix = "{made.base_model_prefix}"


{whole}
```
"""


def _is_usual(causal: nn.Module, decoder: nn.Module) -> bool:
    kept, beside = causal.state_dict(), tuple(f"{part}." for part in parts_beside_text(causal))
    unkept = {n.rpartition(".")[2] for n, _ in causal.named_buffers() if n not in kept and not n.startswith(beside)}
    computed = all(name == "embed_scale" or name.endswith("inv_freq") for name in unkept)
    return computed and "past_key_values" in signature(decoder.forward).parameters


def vocabulary_head(config: Any) -> Callable[[str], bool]:
    """Return what tells the weights of a causal model's vocabulary head, which a reward model does without, by name."""
    if type(config) not in causal_class(config)._model_mapping:
        return lambda name: False
    with torch.device("meta"):
        causal = causal_class(config).from_config(config, trust_remote_code=False)
    head, renamings = set(_beside_decoder(causal)), get_model_conversion_mapping(causal)

    def belongs(name: str) -> bool:
        for renaming in renamings:
            name, _ = renaming.rename_source_key(name)
        return name in head

    return belongs


def _beside_decoder(model: Any) -> tuple[str, ...]:
    return tuple(name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}."))
