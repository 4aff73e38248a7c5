"""Weights read from a folder and compared with the model: nothing is left to chance, nothing left over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from align.errors import ModelError, shorten
from align.models.foreign_code import may_run_code, refuse_code

SHOWN = 3
"""Names listed before the rest is counted."""


def load_whole(
    auto: Any, path: str, *, fresh: Collection[str] = (), left: Callable[[str], bool] | None = None, **options: Any
) -> tuple[Any, bool]:
    """Return a model of transformers with every weight read from its folder, and whether its fresh part is fresh.

    What a model ties, or declares to do without, is not missed.

    Args:
        auto: An auto class of transformers.
        path: Folder or hub id.
        fresh: Weights that are drawn at random where the folder has none of them; the folder may also have all.
        left: Tells by name which weights the folder may have that the model has not.
        options: Further arguments of `from_pretrained`.

    Raises ModelError naming the weights that are missing, unexpected or of another shape.
    """
    trusted = may_run_code(path, options.get("revision"))
    with one_line(path):
        model, info = auto.from_pretrained(
            path, use_safetensors=True, trust_remote_code=trusted, output_loading_info=True, **READ, **options
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(f"{path}: an adapter lies beside the model there: give a local folder of one or the other")
    missing = set(info["missing_keys"])
    unexpected = {name for name in info["unexpected_keys"] if left is None or not left(name)}
    drawn = bool(fresh) and set(fresh) <= missing
    differing = [f"{name} has {list(found)} for {list(own)}" for name, found, own in sorted(info["mismatched_keys"])]
    faults = listed("missing", missing - set(fresh) if drawn else missing)
    faults += listed("unexpected", unexpected) + listed("of another shape", differing)
    if faults:
        lost = len(faults) == bool(unexpected)
        would = "what the model has no place for would be lost" if lost else "what is missing would be drawn at random"
        raise ModelError(
            f"{path}: its weights are not those of {type(model).__name__} ({'; '.join(faults)}): {would}, so fetch or "
            "convert the folder again, or give a model of the kind that is needed"
        )
    return model, drawn


READ: dict[str, Any] = {"ignore_mismatched_sizes": True}
"""A weight of another shape is told with all others, not by a table of its own."""


def listed(what: str, names: Collection[str]) -> list[str]:
    """Return one phrase on some weights, none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what}: {', '.join(sorted(names)[:SHOWN])}{more}"]


@contextmanager
def one_line(path: str) -> Iterator[None]:
    """Tell of a library's failure to load a model in one line."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        refuse_code(path, error)
        raise ModelError(
            f"backbone path {path}: cannot be loaded ({shorten(error, 200)}): check the spelling, or give a folder"
        ) from error
