"""A small chart in braille dots for terminals: one series, its onset, and values not finite. Pure.

Our own because rich draws no charts and plotext changed its whole interface between 5 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by row and column of its dots."""
LABEL = 10
"""Characters left of the axis."""
DECADES_LOG = 1.5
"""Positive values over more decades than this are drawn on a logarithmic axis."""


def chart(
    steps: Sequence[int],
    values: Sequence[float],
    *,
    onset: int | None = None,
    width: int = 72,
    height: int = 8,
) -> list[str]:
    """Lines of text, `width` characters wide. Every bucket shows its whole range."""
    finite = [value for value in values if math.isfinite(value)]
    columns = width - LABEL - 2
    if not finite or columns < 8 or height < 2:
        return []
    low, high = min(finite), max(finite)
    log = low > 0 and math.log10(high) - math.log10(low) > DECADES_LOG
    peak = max(abs(low), abs(high)) or 1.0  # so that no difference overflows
    scale = math.log10 if log else (lambda value: value / peak)
    bottom, top = scale(low), scale(high)
    if top <= bottom:
        bottom, top = bottom - 0.5, bottom + 0.5
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def across(step: int, cells: int) -> int:
        return min(int((step - first) * cells / (last - first)), cells - 1)

    grid = [[0] * columns for _ in range(height)]
    bad = [False] * columns
    ranges = _ranges(steps, values, scale, lambda step: across(step, 2 * columns), bad)
    rows = 4 * height
    for dot, (least, most) in ranges.items():
        upper = int((top - most) / (top - bottom) * (rows - 1) + 0.5)
        lower = int((top - least) / (top - bottom) * (rows - 1) + 0.5)
        for row in range(max(upper, 0), min(lower, rows - 1) + 1):
            grid[row // 4][dot // 2] |= DOTS[row % 4][dot % 2]
    mark = across(onset, columns) if onset is not None and first <= onset <= last else -1
    lines = [] if not any(bad) else [_label("") + "".join("×" if one else " " for one in bad)]
    for row, cells in enumerate(grid):
        edge = {0: high, height - 1: low}.get(row)
        text = "".join(
            "┊" if not cell and column == mark else chr(0x2800 + cell) if cell else " "
            for column, cell in enumerate(cells)
        )
        lines.append(_label("" if edge is None else short(edge)) + text)
    return [*lines, *_axis(first, last, onset if mark >= 0 else None, mark, columns, log)]


def _ranges(steps, values, scale, place, bad: list[bool]) -> dict[int, tuple[float, float]]:
    """Dot column → least and greatest; lines join neighbours so that a jump shows as one."""
    found: dict[int, tuple[float, float]] = {}
    before: float | None = None
    for step, value in zip(steps, values, strict=True):
        dot = place(step)
        if not math.isfinite(value):
            bad[dot // 2] = True
            before = None
            continue
        now = scale(value)
        least, most = found.get(dot, (now, now))
        if before is not None:
            least, most = min(least, before), max(most, before)
        found[dot] = (min(least, now), max(most, now))
        before = now
    return found


def _axis(
    first: int, last: int, onset: int | None, mark: int, columns: int, log: bool
) -> list[str]:
    line = [" "] * columns
    ends = (str(first), str(last))
    line[: len(ends[0])] = ends[0]
    line[columns - len(ends[1]) :] = ends[1]
    if onset is not None:
        text = f"▲ onset {onset}"
        at = min(max(mark, len(ends[0]) + 1), columns - len(ends[1]) - len(text) - 1)
        if at > len(ends[0]):
            line[at : at + len(text)] = text
    name = "log" if log else ""
    return [f"{'':>{LABEL}} └{'─' * columns}", f"{name:>{LABEL}}  {''.join(line[:columns])}"]


def _label(text: str) -> str:
    return f"{text:>{LABEL}} │"


def short(value: float) -> str:
    """A number in at most ten characters."""
    return f"{value:.4g}"
