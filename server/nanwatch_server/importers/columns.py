"""Which column of a table is the step, which the clock, and what a cell says. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nanwatch_server.importers.rows import usable_step

_STEPS = (
    "step",
    "global_step",
    "_step",
    "trainer/global_step",
    "train/global_step",
    "steps",
    "total_steps",
    "total_timesteps",
    "timesteps_total",
    "num_timesteps",
    "timesteps",
    "num_env_steps_sampled",
    "env_step",
    "environment_steps",
    "iteration",
    "iterations",
    "training_iteration",
    "iter",
    "it",
    "update",
    "updates",
    "n_updates",
    "num_updates",
    "batch",
    "batch_idx",
    "episode",
    "episodes",
    "epoch",
)
"""Names of a step, likeliest first; also as the last part of a name (`time/total_timesteps`)."""

_WALL = ("_timestamp", "timestamp", "wall_time", "walltime", "wall_clock", "unix_time", "time",
         "datetime", "date", "created_at")  # fmt: skip
_ELAPSED = ("_runtime", "time_elapsed", "elapsed", "elapsed_time", "runtime", "time_total_s",
            "relative_time", "relative_time_(wall)", "relative_time_(process)")  # fmt: skip
SINCE_1970 = 1e8
"""A plain `time` below this is a duration, not a clock."""
MILLISECONDS = 1e11
"""A clock beyond this counts milliseconds."""

_WORDS = {"true": 1.0, "false": 0.0}
_NAN = r"nan(?:\([^()]*\)|[qs])?|1[.,]#(?:[qs]nan|ind)0*"
_INF = r"inf(?:inity)?|1[.,]#inf0*|∞"
_SPELT = re.compile(rf"(?P<sign>[+-]?)(?:(?P<nan>{_NAN})|{_INF})")
"""What C libraries print: Python itself reads `nan` and `inf` only."""
_BARE = re.compile(
    rf'"(?:[^"\\]|\\.)*"?|(?<![\w.#])[+\-−]?(?:{_NAN}|{_INF})(?![\w.#(])',
    re.IGNORECASE | re.DOTALL,
)
"""A string or a bare word. One that is never closed is a string to the end of the text: else its
rest would be searched again from each quote in it."""
_COMMA = re.compile(
    r"[+-]?(?:\d+|\d{1,3}(?:[. '\u00a0\u202f]\d{3})+)?,\d*(?:e[+-]?\d+)?", re.IGNORECASE
)
_GROUPS = str.maketrans(dict.fromkeys(". '\xa0\u202f", "") | {",": "."})


def number(cell: Any) -> float | None:
    """What a cell says, NaN and infinities in every spelling included; None if no number."""
    if isinstance(cell, bool | int | float):
        try:
            return float(cell)
        except OverflowError:
            return math.inf if cell > 0 else -math.inf
    if not isinstance(cell, str) or "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return _spelt(cell)


def _spelt(cell: str) -> float | None:
    """A number that Python does not read as one."""
    text = cell.strip().lower().replace("−", "-")
    if text in _WORDS:
        return _WORDS[text]
    if found := _SPELT.fullmatch(text):
        value = math.nan if found["nan"] else math.inf
        return math.copysign(value, -1.0) if found["sign"] == "-" else value
    try:
        return float(text)  # with a minus that is no hyphen
    except ValueError:
        return None


def comma_number(cell: Any) -> float | None:
    """The same of a table whose cells are not parted by commas: `2,5` and `1.234,5` too."""
    value = number(cell)
    if value is None and isinstance(cell, str) and _COMMA.fullmatch(text := cell.strip()):
        return number(text.translate(_GROUPS))
    return value


def quoted(text: str) -> str:
    """JSON in which `nan`, `-inf`, `1.#QNAN` and the like stand bare, with quotes around them."""

    def quote(found: re.Match[str]) -> str:
        said = found[0]
        return said if said.startswith('"') else f'"{said}"'

    return _BARE.sub(quote, text)


def whole(value: float | None) -> int | None:
    """A step; None if the value cannot be one."""
    return None if value is None else usable_step(value)


def _norm(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def step_name(first: Mapping[str, float]) -> str | None:
    """The column that counts steps, by its name and its first value; None for none."""
    usable = [name for name, value in first.items() if whole(value) is not None]
    for wanted in _STEPS:
        for take in (lambda name: name, lambda name: name.rpartition("/")[2]):
            for name in usable:
                if take(_norm(name)) == wanted:
                    return name
    return None


@dataclass(frozen=True, slots=True)
class Clock:
    """The column that tells the time."""

    name: str
    scale: float = 1.0

    def time(self, value: float | None) -> float | None:
        """Seconds; None where the column says nothing usable."""
        if value is None or not math.isfinite(value):
            return None
        at = value * self.scale
        return at if 0 <= at < 1e12 else None


def clock_of(first: Mapping[str, float], *, elapsed: bool = True) -> Clock | None:
    """The column that tells the time, by its name and its first value; None for none.

    `elapsed`: also one that counts from the start of the training.
    """
    for wanted in _WALL:
        for name, value in first.items():
            if _norm(name).rpartition("/")[2] == wanted and value >= SINCE_1970:
                return Clock(name, 1e-3 if value > MILLISECONDS else 1.0)
    for wanted in _ELAPSED if elapsed else ():
        for name, value in first.items():
            if _norm(name).rpartition("/")[2] == wanted and 0 <= value < SINCE_1970:
                return Clock(name)
    return None


def moment(cell: str) -> float | None:
    """A date as seconds since 1970; None if it is none."""
    try:
        return datetime.fromisoformat(cell.strip()).timestamp()
    except (ValueError, OverflowError):
        return None


def is_second_clock(name: str) -> bool:
    """True for W&B's own columns of time, which every row repeats."""
    return name in ("_timestamp", "_runtime")


def is_wall(name: str) -> bool:
    """True for the name of a column that may hold dates."""
    return _norm(name).rpartition("/")[2] in _WALL
