"""What `align benchmark world` says of base and policy, as the demo prints it."""

from __future__ import annotations

from typing import Any

Measured = dict[str, dict[str, Any]]
EQUAL = {"entropy": "base_at_equal_entropy", "KL": "base_at_equal_kl"}


def headline(measured: Measured) -> str:
    """Return what DPO changes at every temperature, in sentences a reader need not correct."""
    base, policy = measured["base"], measured["DPO"]
    said = (
        f"DPO on 4000 preference pairs moves the gold reward of samples at temperature 1 from {base['reward']:.2f} to "
        f"{policy['reward']:.2f} and of greedy answers from {base['greedy']:.2f} to {policy['greedy']:.2f}; the best "
        f"policy has {policy['best']:.2f}."
    )
    for name, key in EQUAL.items():
        if (equal := policy[key])["reward"] is not None:
            said += f" The untouched base at equal {name} (T = {equal['temperature']:.2f}) has {equal['reward']:.2f}."
    return said


def rewards_elsewhere(measured: Measured) -> list[list[str]]:
    """Return rows of a table: rewards at other temperatures, and of the base where it equals each."""
    found = [measured[name] for name in ("base", "DPO")]
    rows = [
        ["reward at T = 0.7", *(_interval(one["temperatures"]["0.7"]) for one in found)],
        ["reward, greedy", *(_interval(one["temperatures"]["0"]) for one in found)],
        ["entropy, nats a token", *(f"{one['entropy']:.3f}" for one in found)],
    ]
    for name, key in EQUAL.items():
        rows += [
            [f"base at equal {name}: reward", *(_interval(one[key]) for one in found)],
            [f"base at equal {name}: temperature", *(_number(one[key]["temperature"]) for one in found)],
            [f"gain over base at equal {name}", *(_interval(one[key], "gain", "gain_") for one in found)],
        ]
    return rows


def _interval(values: dict[str, Any], key: str = "reward", prefix: str = "") -> str:
    value, low, high = (values.get(name) for name in (key, f"{prefix}low", f"{prefix}high"))
    return "-" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
