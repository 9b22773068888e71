"""Tables of series with different steps, woven into records again; pure.

Chunks keep each series for itself. Who judges or writes records of one step wants to see together
what came together: rows of several tables with the same step and time become one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nanwatch_server.domain.models import Series
from nanwatch_server.domain.points import Points
from nanwatch_server.store.buckets import F64, I64

TABLES_MAX = 62
"""Tables woven at once: each is a bit of an int64."""


def rising_key(points: Points, floor: float = -np.inf) -> tuple[F64, F64]:
    """(time, step) of each row, made to rise with the order of arrival: time never falls, and
    within one time the step never falls. Series keep their order when rows are sorted by it."""
    time = np.maximum(np.maximum.accumulate(points.times), floor)
    step = points.steps.astype(np.float64)
    edges = np.flatnonzero(np.diff(time)) + 1
    if len(edges) + 1 < len(time):
        for start, stop in itertools.pairwise([0, *edges.tolist(), len(time)]):
            if stop - start > 1:
                step[start:stop] = np.maximum.accumulate(step[start:stop])
    return time, step


def weave(tables: Sequence[Points], group: Callable[[Series], Hashable]) -> list[Points]:
    """The same points in tables of one group each; rows of one step and time are whole.

    The groups' tables follow each other; within a group records come in order of arrival.
    """
    groups: dict[Hashable, list[Points]] = {}
    for points in tables:
        for key, mine in _split(points, group).items():
            groups.setdefault(key, []).append(mine)
    woven: list[Points] = []
    for mine in groups.values():
        for start in range(0, len(mine), TABLES_MAX):
            woven += _woven(mine[start : start + TABLES_MAX])
    return woven


def _split(points: Points, group: Callable[[Series], Hashable]) -> dict[Hashable, Points]:
    rows: dict[Hashable, list[int]] = {}
    for row, series in enumerate(points.series):
        rows.setdefault(group(series), []).append(row)
    if len(rows) == 1:
        return {next(iter(rows)): points}
    return {
        key: points._replace(
            series=tuple(points.series[row] for row in mine), values=points.values[mine]
        )
        for key, mine in rows.items()
    }


def _woven(tables: list[Points]) -> list[Points]:
    if len(tables) == 1:
        return tables
    keys = [_keys(points) for points in tables]
    columns = [np.concatenate(parts) for parts in zip(*keys, strict=True)]
    order = np.lexsort(columns[::-1])
    fresh = np.zeros(len(order), bool)
    fresh[0] = True
    for column in columns:
        ordered = column[order]
        fresh[1:] |= ordered[1:] != ordered[:-1]
    row_of = np.empty(len(order), np.int64)
    row_of[order] = np.cumsum(fresh) - 1
    rows = int(fresh.sum())
    present = np.zeros(rows, np.int64)
    starts = np.cumsum([0, *(len(points.steps) for points in tables)])
    for bit, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
        present[row_of[start:stop]] |= 1 << bit
    edges = [0, *(np.flatnonzero(np.diff(present)) + 1).tolist(), rows]
    at = [0] * len(tables)
    found: list[Points] = []
    for start, stop in itertools.pairwise(edges):
        bits = int(present[start])
        parts = []
        for bit, points in enumerate(tables):
            if bits >> bit & 1:
                cut = slice(at[bit], at[bit] + stop - start)
                at[bit] = cut.stop
                parts.append((points, cut))
        found.append(_beside(parts))
    return found


def _keys(points: Points) -> tuple[F64 | I64, ...]:
    """What makes a row, most important first: where it stands, how often it came, what it says."""
    time, step = rising_key(points)
    again = np.zeros(len(time))
    same = (np.diff(time) == 0) & (np.diff(step) == 0)
    for at in np.flatnonzero(same).tolist():
        again[at + 1] = again[at] + 1
    return time, step, again, points.times, points.steps


def _beside(parts: list[tuple[Points, slice]]) -> Points:
    first, cut = parts[0]
    if len(parts) == 1:
        return Points(first.series, first.steps[cut], first.times[cut], first.values[:, cut])
    return Points(
        tuple(series for points, _ in parts for series in points.series),
        first.steps[cut],
        first.times[cut],
        np.concatenate([points.values[:, cut] for points, cut in parts]),
    )
