"""`align steer export`: steering vectors of a run as a GGUF control vector."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from align.activations.artefact import chosen_vectors, load_note
from align.activations.gguf_file import save_gguf
from align.activations.reading_vectors import Kind
from align.cli.functions import FunctionVerb
from align.errors import ConfigError, shorten


def steer_export(
    steer: str, out: str, *, model: str | None = None, vector: Kind = "mean", layers: list[int] | None = None
) -> None:
    """Write vectors in the format of repeng and of llama.cpp's control vectors.

    Args:
        steer: A `vectors.safetensors` of ActivationCollector.
        out: The `.gguf` file to write.
        model: The model they are for; null takes the one the file's note names.
        vector: Which of the vectors.
        layers: Which layers; null takes all of the file.
    """
    vectors = chosen_vectors(Path(steer), vector, layers)
    path = model or load_note(Path(steer)).get("model") or ""
    if not path:
        raise ConfigError(f"{steer} has no note that names its model: name it with --model")
    try:
        family = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {path}: no configuration there ({shorten(error, 120)}): name it with --model"
        ) from error
    save_gguf(Path(out), vectors, family)
    blocks = ", ".join(f"direction.{layer - 1}" for layer in vectors)
    print(f"{vector} vectors of {steer} written to {out} ({blocks})")


VERB = FunctionVerb(steer_export)
