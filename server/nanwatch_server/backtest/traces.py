"""What charts of a judged run need: every series, thinned so that no spike and no NaN is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.domain.models import Finding, Incident, Series
from nanwatch_server.domain.points import Points

ROWS_MAX = 1 << 15
"""Rows that a group of series keeps before it is thinned."""
VALUES_MAX = 1 << 22
"""Values of a group before it is thinned, however few rows it has."""
KEPT_BUCKETS = 1 << 10
"""Each keeps its least, its greatest and its first value that is not finite."""

Group = tuple[Series, ...]


class Traces:
    """Points by the series that came together."""

    def __init__(self) -> None:
        self._parts: dict[Group, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
        self._rows: dict[Group, int] = {}

    def add(self, points: Points) -> None:
        """Keep a table."""
        group = points.series
        parts = self._parts.setdefault(group, [])
        parts.append((points.steps, points.values))
        rows = self._rows.get(group, 0) + len(points.steps)
        if rows > ROWS_MAX or (rows > 4 * KEPT_BUCKETS and rows * len(group) > VALUES_MAX):
            steps, values = _whole(parts)
            keep = _extremes(values)
            self._parts[group] = [(steps[keep], values[:, keep])]
            rows = int(keep.sum())
        self._rows[group] = rows

    def series(self) -> list[Series]:
        """Every series there are points of, in the order of their first."""
        return list(dict.fromkeys(one for group in self._parts for one in group))

    def points(self, series: Series) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps (rising) and values of a series."""
        found = [
            (steps, values[group.index(series)])
            for group, parts in self._parts.items()
            if series in group
            for steps, values in parts
        ]
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        steps = np.concatenate([one for one, _ in found])
        values = np.concatenate([one for _, one in found])
        order = np.argsort(steps, kind="stable")
        return steps[order], values[order]

    def shown(self, incident: Incident, most: int = 2) -> list[Series]:
        """The series that an incident speaks of, those of its severest findings first."""
        worst = sorted(incident.findings, key=lambda one: (-one.severity, one.step))
        found = [self._of(one) for one in worst if not one.cleared]
        return list(dict.fromkeys(one for one in found if one is not None))[:most]

    def _of(self, finding: Finding) -> Series | None:
        for kind, layer in (
            (finding.kind, finding.layer),
            (f"{finding.kind}_layer", finding.layer),
            (finding.kind, ""),
        ):
            for one in self.series():
                place = (one.rank, one.scope, one.kind, one.layer)
                if place == (finding.rank, finding.scope, kind, layer):
                    return one
        return None


def _whole(
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    steps = np.concatenate([steps for steps, _ in parts])
    return steps, np.concatenate([values for _, values in parts], axis=1)


def _extremes(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows that hold an extreme, or the first value that is not finite, of a bucket of a series."""
    n = values.shape[1]
    size = -(-n // KEPT_BUCKETS)
    keep = np.zeros(n, bool)
    keep[[0, n - 1]] = True
    for row in values:
        finite = np.isfinite(row)
        for filled, best in ((np.inf, np.argmin), (-np.inf, np.argmax)):
            padded = np.full(KEPT_BUCKETS * size, filled)
            padded[:n] = np.where(finite, row, filled)
            places = best(padded.reshape(KEPT_BUCKETS, size), axis=1)
            places = places + np.arange(KEPT_BUCKETS) * size
            keep[places[places < n]] = True
        bad = np.flatnonzero(~finite)
        if len(bad):
            _, first = np.unique(bad // size, return_index=True)
            keep[bad[first]] = True
    return keep
