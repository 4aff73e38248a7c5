"""What `align benchmark world` says of base and policy, as the demo prints it."""

from __future__ import annotations

from typing import Any

Measured = dict[str, dict[str, Any]]
EQUAL = "base_at_equal_entropy"


def headline(measured: Measured) -> str:
    """Return what DPO changes at every temperature, in a sentence a reader need not correct."""
    base, policy = measured["base"], measured["DPO"]
    equal = policy[EQUAL]
    said = (
        f"DPO on 4000 preference pairs moves the gold reward of samples at temperature 1 from {base['reward']:.2f} to "
        f"{policy['reward']:.2f} and of greedy answers from {base['greedy']:.2f} to {policy['greedy']:.2f}; the best "
        f"policy has {policy['best']:.2f}. "
    )
    if equal["reward"] is None:
        return said + "No temperature makes the untouched base as sharp."
    beyond = f"{equal['gain']:.2f} of the gain is not sharpening alone."
    if equal["gain_low"] <= 0:
        beyond = "no gain beyond sharpening is shown."
    at = (
        f"The untouched base at temperature {equal['temperature']:.2f}, where it is as sharp, has {equal['reward']:.2f}"
    )
    return f"{said}{at}: {beyond}"


def rewards_elsewhere(measured: Measured) -> list[list[str]]:
    """Return rows of a table: rewards at other temperatures, and of the base where it is as sharp as each."""
    found = [measured[name] for name in ("base", "DPO")]
    return [
        ["reward at T = 0.7", *(_interval(one["temperatures"]["0.7"]) for one in found)],
        ["reward, greedy", *(_interval(one["temperatures"]["0"]) for one in found)],
        ["entropy, nats a token", *(f"{one['entropy']:.3f}" for one in found)],
        ["base at equal entropy: reward", *(_interval(one[EQUAL]) for one in found)],
        ["base at equal entropy: temperature", *(_number(one[EQUAL]["temperature"]) for one in found)],
        ["gain over it", *(_interval(one[EQUAL], "gain", "gain_") for one in found)],
    ]


def _interval(values: dict[str, Any], key: str = "reward", prefix: str = "") -> str:
    found = [values.get(name) for name in (key, f"{prefix}low", f"{prefix}high")]
    return "-" if None in found else "{:.3f} [{:.3f}, {:.3f}]".format(*found)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
