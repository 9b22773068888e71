"""Tables as the rules want them: one block for each scope and stage. Pure; called by `judge`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nanwatch_server.detect.block import Block
from nanwatch_server.domain.models import Series
from nanwatch_server.store.replay import Points

PLANS_MAX = 256
"""Different sets of series in the tables of one run, before they are worked out anew."""


@dataclass(frozen=True)
class Plan:
    """Which rows of a table make the block of one scope."""

    scope: str
    stage: str
    scalars: dict[str, int]
    layers: dict[str, tuple[tuple[str, ...], slice | np.ndarray]]


def blocks_of(plans: dict[tuple[int, ...], list[Plan]], points: Points) -> list[Block]:
    """One block per scope and stage of the table; steps rising."""
    key = tuple(series.id for series in points.series)
    if key not in plans:
        if len(plans) >= PLANS_MAX:
            plans.clear()
        plans[key] = _plan(points.series)
    steps, times, values = points.steps, points.times, points.values
    if len(steps) > 1 and (np.diff(steps) < 0).any():
        order = np.argsort(steps, kind="stable")
        steps, times, values = steps[order], times[order], values[:, order]
    return [
        Block(
            plan.scope,
            plan.stage,
            steps,
            times,
            {kind: values[row] for kind, row in plan.scalars.items()},
            {kind: (names, values[rows]) for kind, (names, rows) in plan.layers.items()},
        )
        for plan in plans[key]
    ]


def _plan(series: tuple[Series, ...]) -> list[Plan]:
    scopes: dict[tuple[str, str], tuple[dict, dict]] = {}
    for row, one in enumerate(series):
        scalars, layers = scopes.setdefault((one.scope, one.stage), ({}, {}))
        if one.layer:
            layers.setdefault(one.kind, []).append((one.layer, row))
        else:
            scalars[one.kind] = row
    return [
        Plan(
            scope,
            stage,
            scalars,
            {
                kind: (tuple(name for name, _ in rows), _selection([row for _, row in rows]))
                for kind, rows in layers.items()
            },
        )
        for (scope, stage), (scalars, layers) in scopes.items()
    ]


def _selection(rows: list[int]) -> slice | np.ndarray:
    """These rows of a table; without a copy where they follow each other."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return np.array(rows)
