"""A model folder from a GGUF file, as llama.cpp and its relatives hand models around."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.errors import ConfigError, ModelError, shorten
from align.files import atomic_folder


def write_from_gguf(file: Path, out: Path) -> Any:
    """Write the model of a GGUF file, its weights in float32, as a folder with its tokenizer, and return it.

    Raises ConfigError where the package gguf or the file is missing, or the folder is there, and ModelError for a file
    that transformers cannot read.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already: name another folder")
    if not file.is_file():
        raise ConfigError(f"{file}: no such file, expected a .gguf")
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ConfigError("GGUF files need the package gguf: pip install 'align-lm[gguf]'") from error
    try:
        own: dict[str, Any] = {"gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, trust_remote_code=False, **own)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, trust_remote_code=False, **own)
    except (ValueError, KeyError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{file}: transformers cannot read it: {shorten(error, 200)}") from error
    plain = _plain(model)
    with atomic_folder(out) as part:
        plain.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return plain


def _plain(model: Any) -> Any:
    """Return the model without a note that its weights are quantised, which they no longer are, sharing them."""
    config = type(model.config).from_dict({**model.config.to_dict(), "quantization_config": None})
    vars(config).pop("quantization_config", None)
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
