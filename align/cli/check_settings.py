"""The settings of `align check`: those of `align fit`, parsed and built without a run, and its own."""

from __future__ import annotations

import math
from argparse import ArgumentError
from pathlib import Path

from align.cli.check_plan import Asked
from align.cli.lightning import AlignCLI
from align.errors import ConfigError
from align.sizing.cards import Place
from align.sizing.meta_model import has_weights

OWN = {"--fit_into": "8xH100-80GB", "--out": "fits.yaml", "--price_per_hour": "2.5"}
"""Options of this verb alone, with a value that each may have."""
BELONGS = {
    "--out": "where --fit_into writes its settings",
    "--price_per_hour": "that of one card for an hour, of the cards that --fit_into names",
}
NO_DATA = ["--data", "SyntheticDataModule"]
"""Stands in where a plan is made without data: it is not read."""


class FitWithoutRunning(AlignCLI):
    """Parses and builds everything `align fit` would, and stops there; of a plan only the method and its data."""

    def __init__(self, words: list[str], place: Place | None) -> None:
        """Parse; with a place it is a plan in any case."""
        self.place = place
        super().__init__(words)

    def _run_subcommand(self, subcommand: str) -> None:
        return None

    def use_folder(self, root: Path) -> None:
        """Look at used run folders too."""

    def before_instantiate_classes(self) -> None:
        """Note what a plan is made from: settings as they are given."""
        config = self.config["fit"]
        backbone = config.model.init_args.backbone
        self.planned = self.place is not None or not (backbone.random_init or has_weights(backbone.path))
        if self.planned:
            self.asked = Asked.of(config.trainer)
        else:
            super().before_instantiate_classes()

    def instantiate_classes(self) -> None:
        """Leave the Trainer of a plan unmade: its devices need not be here."""
        if not self.planned:
            super().instantiate_classes()
            return
        self.config_init = self.parser.instantiate_classes(self.config)
        self.model, self.datamodule = self._get(self.config_init, "model"), self._get(self.config_init, "data")


def own_options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Take out the options that `align fit` has not. Raises ConfigError for one without a value."""
    left, own, rest = list[str](), dict[str, str](), iter(words)
    for word in rest:
        name, sign, value = word.partition("=")
        if name not in OWN:
            left.append(word)
            continue
        own[name] = value if sign else next(rest, "")
        if not own[name] or own[name].startswith("--"):
            raise ConfigError(f"{name}: expected a value, such as {OWN[name]}")
    for name in sorted(own.keys() - {"--fit_into"}):
        if "--fit_into" not in own:
            raise ConfigError(f"{name} is {BELONGS[name]}: give both, or leave it out")
    return left, own


def price_of(text: str | None) -> float | None:
    """Read the price of a card for an hour. Raises ConfigError for what is none."""
    if text is None:
        return None
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise ConfigError(f"--price_per_hour {text!r}: expected what one card costs for an hour, such as 2.5")
    return price


def parsed(words: list[str], place: Place | None) -> tuple[FitWithoutRunning, bool]:
    """Return the settings, and whether they name data, which only a plan can do without."""
    try:
        return FitWithoutRunning(["fit", *words], place), True
    except ArgumentError as error:
        if "required: fit.data" not in str(error) and 'Key "data" is required' not in str(error):
            raise
        cli = FitWithoutRunning(["fit", *NO_DATA, *words], place)
        if not cli.planned:
            raise
        return cli, False
