"""Learning rates of one step: as the script asks for them, and as the optimizer uses them.

Rates may be tensors on a device (`capturable`): those are read without waiting. `observer` notes
them around each step; `control` reads what was in force on the background thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanwatch.control.learning_rate import KEY, Scaling, as_float
from nanwatch.probes.tensors import Number, number_of, read_all

StepRate = tuple[str, Number, Number]
"""(group name, used, scheduled)."""


def _read(value: Any) -> Number:
    if type(value) is float:
        return value
    if getattr(getattr(value, "device", None), "type", "cpu") != "cpu":
        return read_all([value])
    return as_float(value)


def begin(optimizer: Any, scaling: Scaling) -> tuple[StepRate, ...]:
    """Put the factors on for one step, and say what each group runs at."""
    groups = optimizer.param_groups
    if len(groups) == 1 and not scaling.dirty and KEY not in groups[0]:
        rate = groups[0].get("lr")
        if type(rate) is float:  # nearly every training
            return (("", rate, rate),)
    scheduled = [_read(group["lr"]) if "lr" in group else None for group in groups]
    used: Sequence[Number | None] = scheduled
    if scaling.dirty or any(KEY in group for group in groups):
        scaling.begin(optimizer)
        used = [_read(group["lr"]) if "lr" in group else None for group in groups]
    return tuple(
        (f"group{n}" if n else "", now, plan)
        for n, (now, plan) in enumerate(zip(used, scheduled, strict=True))
        if now is not None and plan is not None
    )


class Seen:
    """Rates by scope (`policy`, `policy#1`, …) of the last step of each optimizer."""

    def __init__(self) -> None:
        self._found: tuple[dict[str, Number], dict[str, Number]] = ({}, {})
        self._last: dict[str, Sequence[StepRate]] = {}

    def note(self, scope: str, rates: Sequence[StepRate]) -> None:
        """New dictionaries each time: the background thread reads them without a lock."""
        if self._last.get(scope) == rates:
            return
        self._last[scope] = rates
        now, scheduled = self._found
        keys = [f"{scope}#{name[5:]}" if name else scope for name, _, _ in rates]
        self._found = (
            now | {key: used for key, (_, used, _) in zip(keys, rates, strict=True)},
            scheduled | {key: plan for key, (_, _, plan) in zip(keys, rates, strict=True)},
        )

    def replace(self, now: dict[str, float], scheduled: dict[str, float]) -> None:
        """All of them anew, after a command."""
        self._last.clear()
        self._found = (dict(now), dict(scheduled))

    def read(self) -> tuple[dict[str, float], dict[str, float]]:
        """(in force, scheduled) as numbers; background thread."""
        now, scheduled = self._found
        return (
            {key: number_of(rate) for key, rate in now.items()},
            {key: number_of(rate) for key, rate in scheduled.items()},
        )
