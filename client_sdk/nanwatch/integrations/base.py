"""What all integrations share: the run of this process, forwarding of numbers, the guard.

Knows no library. Called by the modules of this package only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import nanwatch.run as home
from nanwatch.contract.limits import to_name
from nanwatch.guard import GUARD
from nanwatch.integrations.names import place
from nanwatch.run import NullRun, Run

FACTS_MAX = 100
"""Facts that one library may add to a run."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def never_raises(function: _Function) -> _Function:
    """A callback whose own errors are counted and shown, and never reach the library."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            GUARD.note(f"{function.__module__.rpartition('.')[2]} integration", error)
            return None

    return cast(_Function, guarded)


def join(options: Mapping[str, Any]) -> NullRun:
    """The run of this process; `nanwatch.init(**options)` if there is none.

    Raises what `init` raises: `ValueError` for a bad argument.
    """
    run = home.current()
    over = isinstance(run, Run) and not run.observer.enabled
    return home.init(**options) if over or not home.initialised() else run


def active() -> Run | None:
    """The run of this process, if one is watching."""
    run = home.current()
    return run if isinstance(run, Run) and run.observer.enabled else None


def forward(
    values: Mapping[str, Any], *, stage: str = "train", step: int | None = None, prefix: str = ""
) -> None:
    """Log the numbers among `values` at the present attempt; what is no number is left out.

    `step` is the library's own count. It is the time axis as long as this process has no
    optimizer; after that the attempt is, and a `step` that differs is kept as `global_step`.
    """
    run = active()
    if run is None:
        return
    observer = run.observer
    measured = bool(observer.registry.known)
    stages: dict[str, dict[str, Any]] = {}
    for name, value in _numbers(values, prefix):
        found = place(name, stage, measured=measured)
        stages.setdefault(found.stage, {})[found.name] = value
    if step is not None and stages:
        if not measured:
            observer.clock.start_at(int(step))
        elif int(step) != observer.clock.step:
            stages.setdefault("train", {})["global_step"] = int(step)
    for name, found in stages.items():
        run.log(found, stage=name)


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        full = f"{prefix}/{name}" if prefix else str(name)
        if isinstance(value, Mapping):
            yield from _numbers(value, full)
        elif is_number(value):
            yield full, value


def is_number(value: Any) -> bool:
    """True for a number, or an array or tensor of one element."""
    if isinstance(value, int | float):
        return True
    if not hasattr(value, "item") or not hasattr(value, "dtype"):
        return False
    count = value.numel() if hasattr(value, "numel") else getattr(value, "size", 0)
    return count == 1


def facts(title: str, values: Mapping[str, Any]) -> None:
    """Tell the rules and the page what the library was told (precision, clipping, schedule, …)."""
    run = active()
    if run is None:
        return
    known = {
        to_name(str(name)): str(value)[:200]
        for name, value in list(values.items())[:FACTS_MAX]
        if value is not None
    }
    if known:
        run.observer.mark("config", title, known)


def mark(what: str, text: str, **data: Any) -> None:
    """A mark on the time axis of the run, if there is one."""
    home.current().mark(what, text, **data)
