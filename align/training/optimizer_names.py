"""States of optimisers by names of parameters, as sharded runs keep them, and by numbers, as single processes do."""

from __future__ import annotations

from typing import Any

State = dict[str, Any]


def order_of(groups: list[State]) -> list[Any]:
    """Return what stands for the parameters, group after group: torch numbers them in this order."""
    return [name for group in groups for name in group["params"]]


def numbered(state: State, groups: list[State]) -> State:
    """Return a state by names as torch's own optimisers take it."""
    names = order_of(groups)
    numbers = {name: number for number, name in enumerate(names)}
    own = [{**group, "params": [numbers[name] for name in group["params"]]} for group in groups]
    return {"state": {numbers[name]: values for name, values in state.items()}, "param_groups": own}


def named(saved: State, groups: list[State]) -> State:
    """Return a numbered state under the names that the same groups have here, with the settings that were saved."""
    names = order_of(groups)
    state = {names[number]: values for number, values in saved["state"].items()}
    return {"state": state, "param_groups": settled(saved["param_groups"], groups)}


def settled(saved: list[State], groups: list[State]) -> list[State]:
    """Return groups with the settings that were saved, such as the learning rate."""
    return [{**old, "params": own["params"]} for old, own in zip(saved, groups, strict=True)]
