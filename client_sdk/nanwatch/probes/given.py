"""Modules in what a script gave to `watch`: modules themselves, lists and dictionaries of them, and
plain objects that hold them (an agent with `actor` and `critic`). `run` calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nanwatch.contract.limits import to_name

HELD_MOST = 64
"""Modules that are taken from one thing."""


def modules_of(name: str, thing: Any) -> dict[str, Any]:
    """Name → module. Empty if there is none in it, as in an optimizer."""
    import torch

    if isinstance(thing, torch.nn.Module):
        return {to_name(name): thing}
    if isinstance(thing, torch.optim.Optimizer):
        return {}
    held = [(inner, one) for inner, one in _held(name, thing) if isinstance(one, torch.nn.Module)]
    return {to_name(inner): module for inner, module in held[:HELD_MOST]}


def _held(name: str, thing: Any) -> Iterable[tuple[str, Any]]:
    """(name, value) of what a collection or an object holds."""
    if isinstance(thing, dict):
        return [(str(key), value) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [(f"{name}{number}", value) for number, value in enumerate(thing)]
    return list(getattr(thing, "__dict__", {}).items())


def unfit(name: str, thing: Any) -> str:
    """What to tell the user of something without a module."""
    return (
        f"watch() takes modules (torch.nn.Module), or an object, list or dict that holds them; "
        f"{name} is of type {type(thing).__name__} and was left out."
    )


def unfit_main(main: Any) -> str:
    """The same of a main optimizer that is none."""
    return (
        f"watch(main=…) takes the optimizer whose attempts are the steps; got "
        f"{type(main).__name__}, so the first optimizer that steps is taken."
    )
