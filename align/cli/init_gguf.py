"""`align init gguf`: an ordinary model folder from a GGUF file."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import FunctionVerb


def init_gguf(file: str, out: str) -> None:
    """Write the model of a GGUF file as a folder that transformers, PEFT and vLLM open, in float32.

    Weights that were quantised come back as they are, rounded: good enough to try things out, not the model that the
    file was made of.

    Args:
        file: The .gguf file.
        out: Folder to write.
    """
    from align.models.gguf_weights import write_from_gguf

    model = write_from_gguf(Path(file).expanduser(), Path(out).expanduser())
    print(f"{out}: {type(model).__name__} with {model.num_parameters():,} parameters")


VERB = FunctionVerb(init_gguf)
