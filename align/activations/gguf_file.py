"""Directions as a GGUF control vector, which repeng reads and llama.cpp takes with `--control-vector-scaled`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from align.errors import ConfigError
from align.files import atomic_file

ARCHITECTURE = "controlvector"


def save_gguf(path: Path, vectors: Mapping[int, Tensor], family: str) -> None:
    """Write vectors by layer; `family` is the model's type (`llama`), a hint to the reader.

    Both programs count blocks from 0 and add `direction.N` to what block N puts out: our layer N + 1. llama.cpp refuses
    N = 0, so layer 1 cannot be written. Raises ConfigError for it, and where the package gguf is missing.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise ConfigError("GGUF files need the package gguf: pip install 'align-lm[gguf]'") from error
    if 1 in vectors:
        raise ConfigError("layers has 1, the first block, which llama.cpp cannot steer: leave it out with --layers")
    with atomic_file(path) as part:
        writer = GGUFWriter(part, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", family)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
        for layer, vector in sorted(vectors.items()):
            writer.add_tensor(f"direction.{layer - 1}", vector.detach().cpu().numpy().astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
