"""`align soup`: a model made of models by a weighted sum of their weights."""

from __future__ import annotations

from pathlib import Path

from align.cli.functions import call
from align.errors import ConfigError
from align.models.model_soup import write_soup
from align.models.soup_weights import Simplex, SoupWeights


def run(words: list[str]) -> int:
    """Run the verb."""
    return call(soup, words, "soup")


def soup(
    models: list[str], weights: list[float], out: str, *, kind: SoupWeights = Simplex(), base: str | None = None
) -> None:
    """Write a model folder with theta_0 + sum w_i (theta_i - theta_0); adapters are added up exactly, at a higher rank.

    Args:
        models: Folders of full models, or of adapters on one base.
        weights: A number for each, as the kind reads them.
        out: Folder to write.
        kind: `Simplex`, `Signed` (a direction), or `TaskArithmetic`.
        base: The models' common start, for full models whose factors do not add up to 1.
    """
    if len(models) != len(weights):
        raise ConfigError(f"{len(models)} models but {len(weights)} weights")
    factors = kind.factors(weights)
    write_soup(Path(out), models, factors, base)
    shares = ", ".join(f"{factor:g} {model}" for model, factor in zip(models, factors, strict=True))
    print(f"{out}: {shares}")
