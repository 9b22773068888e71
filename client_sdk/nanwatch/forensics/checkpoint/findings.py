"""What a finding of `nanwatch diagnose` is, and how numbers and names are written in one. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

Severity = Literal["critical", "warning", "notice"]
RANK: dict[str, int] = {"critical": 0, "warning": 1, "notice": 2}


class Advice(msgspec.Struct):
    """One thing to try."""

    text: str
    treats: Literal["cause", "symptom", ""] = ""
    """Empty for what only helps to see or to go on."""
    copy: str = ""
    """A line to copy: an option, a call."""


class Finding(msgspec.Struct):
    """One thing that is wrong, or worth knowing."""

    rule: str
    severity: Severity
    message: str
    where: list[str] = []
    """Tensors concerned, the first in the order of the file first."""
    advice: list[Advice] = []


def number(value: float) -> str:
    """Four significant digits."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"


def some(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 5 more`."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def count(n: int, what: str) -> str:
    """`1 tensor`, `3 tensors`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
