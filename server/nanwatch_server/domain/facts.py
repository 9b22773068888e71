"""Reading a run's facts and writing numbers as text. Small pure functions every part may use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_PATH = re.compile(r"[./:\\]")


def leaf(key: str) -> str:
    """The last part of a name in a configuration, as it is spelt there."""
    return _PATH.split(key)[-1]


def plain(key: str) -> str:
    """That part as names are compared: in small letters, `_` for `-`."""
    return leaf(key).lower().replace("-", "_")


def fact(facts: Mapping[str, str], *names: str) -> str | None:
    """The first of `names` among the facts, ignoring case, `-` against `_` and any path before it.

    `training.gradient_clip_val` is found as `gradient_clip_val`. Empty and `None` count as absent.
    """
    leaves: dict[str, str] = {}
    for key, value in facts.items():
        if value.strip().lower() not in ("", "none", "null"):
            leaves.setdefault(plain(key), value.strip())
    for name in names:
        if (found := leaves.get(name.lower())) is not None:
            return found
    return None


def fact_number(facts: Mapping[str, str], *names: str) -> float | None:
    """The first of `names` that holds a finite number."""
    for name in names:
        text = fact(facts, name)
        if text is None:
            continue
        try:
            value = float(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return None


def is_on(facts: Mapping[str, str], *names: str) -> bool:
    """True if one of `names` is set to something that means yes."""
    off = ("0", "false", "no", "off", "32", "fp32", "0.0")
    return any(
        (value := fact(facts, name)) is not None and value.lower() not in off for name in names
    )


EPOCHS = "log_counts_epochs"
"""Fact of a log whose steps are epochs: each record is a mean over many updates."""
WRITTEN_BY = "log_written_by"
"""Fact of a log that was read from a file: whose it is."""
TRAINER = "transformers.Trainer"


def filters_nan(facts: Mapping[str, str]) -> bool:
    """True if the logged loss may stand for one that is NaN: `logging_nan_inf_filter`, on unless
    somebody turned it off, takes the mean of those before it in the window of one log instead."""
    if fact(facts, "logging_nan_inf_filter") is None:
        return facts.get(WRITTEN_BY) == TRAINER
    return is_on(facts, "logging_nan_inf_filter")


def number(value: float) -> str:
    """Four significant digits; `NaN`, `Infinity` and `-Infinity` as words."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == int(value) and abs(value) < 1e5:
        return str(int(value))
    return f"{value:.4g}"


def short(value: float) -> str:
    """Two significant digits, for titles."""
    if not math.isfinite(value):
        return number(value)
    return f"{float(f'{value:.2g}'):.0f}" if 10 <= abs(value) < 1e5 else f"{value:.2g}"
