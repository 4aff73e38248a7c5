"""`align merge`: a model made of models by a weighted sum of their weights."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import FunctionVerb
from align.errors import ConfigError
from align.models.model_soup import write_soup
from align.models.soup_weights import Simplex, SoupWeights


def merge(
    models: dict[str, str] | list[str],
    weights: dict[str, float] | list[float],
    out: str,
    *,
    kind: SoupWeights = Simplex(),
    base: str | None = None,
) -> None:
    """Write a model folder with theta_0 + sum w_i (theta_i - theta_0); adapters are added up exactly, at a higher rank.

    Args:
        models: Folders of full models, or of adapters on one base; also by name (`--models.NAME DIR`).
        weights: A number for each, as the kind reads them; also by name (`--weights.NAME 0.5`).
        out: Folder to write.
        kind: `Simplex`, `Signed` (a direction), or `TaskArithmetic`.
        base: The models' common start, for full models whose factors do not add up to 1.
    """
    if len(models) != len(weights):
        raise ConfigError(f"{len(models)} models but {len(weights)} weights")
    names = list(models)
    if isinstance(weights, dict) and set(names) != set(weights):
        raise ConfigError(f"weights: expected a number for each of {', '.join(names)}, got {', '.join(weights)}")
    factors = kind.factors([weights[name] for name in names] if isinstance(weights, dict) else weights)
    write_soup(Path(out), list(models.values()) if isinstance(models, dict) else models, factors, base)
    shares = ", ".join(f"{factor:g} {name}" for name, factor in zip(names, factors, strict=True))
    print(f"{out}: {shares}")


VERB = FunctionVerb(merge)
