"""Tables of `align benchmark world`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from align.cli.evaluation_tables import name, show
from align.evaluation.world_benchmark import Equal

PARTS = (
    *("share", "held_out_entities", "helpfulness", "harmlessness", "verbosity", "refusal_rate", "true_facts"),
    *("well_formed", "flattery"),
)
EQUAL: dict[Equal, str] = {"entropy": "base_at_equal_entropy", "kl": "base_at_equal_kl"}
"""Where the base that equals a model stands beside it."""
Found = Mapping[str, Mapping[str, Any]]


def show_world(found: Found) -> None:
    """Show what models reach, and what there is beside it: the base as sharp, reward models, best-of-n."""
    models = list(found.values())
    show(_rewards(found))
    if any(key in models[0] for key in EQUAL.values()):
        show(_matched(found))
    show(_parts(found))
    if "reward_models" in models[0]:
        show(_reward_models(found))
    if "best_of" in models[0]:
        show(_best_of(models[0]["best_of"]))
    for line in _unreached(found):
        print(line)


def _rewards(found: Found) -> Table:
    """Return rewards by temperature."""
    others = list(next(iter(found.values()))["temperatures"])
    titles = [f"T = {t}" if t != "0" else "greedy" for t in others]
    view = _view("reward", "T = 1", *titles, "KL", "entropy")
    for model, values in found.items():
        cells = [_interval(values), *(_interval(values["temperatures"][t]) for t in others)]
        view.add_row(Text(model), *cells, f"{values['kl']:.2f}", f"{values['entropy']:.3f}")
    return view


def _unreached(found: Found) -> list[str]:
    """Return what no temperature gives, in words."""
    told = (
        (model, equal, values.get(key, {}).get("unreached"))
        for model, values in found.items()
        for equal, key in EQUAL.items()
    )
    return [f"{model}: no temperature of the first model has its {equal}: {why}" for model, equal, why in told if why]


def _matched(found: Found) -> Table:
    """Return what the untouched first model reaches at other temperatures, and the gain over it at temperature 1."""
    titles = [title for equal in EQUAL for title in (f"equal {equal}: T", "reward", "gain over it")]
    view = _view("the untouched first model where it equals each", *titles)
    for model, values in found.items():
        cells = []
        for base in (values[key] for key in EQUAL.values()):
            gain = {"reward": base["gain"], "low": base.get("gain_low"), "high": base.get("gain_high")}
            cells += ["-" if base["temperature"] is None else f"{base['temperature']:.2f}"]
            cells += [_interval(base), _interval(gain)]
        view.add_row(Text(model), *cells)
    return view


def _parts(found: Found) -> Table:
    """Return what the reward at temperature 1 is made of."""
    columns = [key for key in PARTS if key in next(iter(found.values()))]
    view = _view("at temperature 1", *columns)
    for model, values in found.items():
        view.add_row(Text(model), *(f"{values[key]:.3f}" for key in columns))
    return view


def _view(title: str, *columns: str) -> Table:
    view = Table(title=title, title_justify="left")
    for place, header in enumerate(("model", *columns)):
        view.add_column(Text(header), justify="right" if place else "left")
    return view


def _interval(values: Mapping[str, Any]) -> str:
    if values["reward"] is None:
        return "-"
    return f"{values['reward']:.2f} [{values['low']:.2f}, {values['high']:.2f}]"


def _reward_models(found: Found) -> Table:
    """Return what reward models say at temperature 1."""
    models = [model for model in next(iter(found.values()))["reward_models"] if model != "by_prompt"]
    view = _view("reward models at temperature 1", *map(name, models))
    for policy, values in found.items():
        view.add_row(Text(policy), *(f"{values['reward_models'][model]:.2f}" for model in models))
    return view


def _best_of(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Return what the best of n samples of the first model is worth, by who chooses."""
    view = _view("gold reward of the best of n samples", *(f"chosen by {name(by)}" for by in found), "KL at most")
    for n in next(iter(found.values())):
        rows = [sizes[n] for sizes in found.values()]
        view.add_row(Text(n), *map(_interval, rows), f"{rows[0]['kl']:.2f}")
    return view
