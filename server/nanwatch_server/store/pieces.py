"""Where the marks of a stored run stand between its points. Pure.

A mark is stored with its step and the time at which it arrived, which may be long after. So it
stands before the first point of its step; where steps go back, a training was resumed, and marks
that arrived after its resume wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from nanwatch_server.domain.models import RunMark
from nanwatch_server.domain.points import Points

INFERRED = "steps went back"
"""Text of a resume that nobody marked."""


class Pieces:
    """Points of a run in rounds, cut at its marks."""

    def __init__(self, marks: Sequence[RunMark]) -> None:
        self._pending = deque(marks)
        self._last: dict[int, int] = {}
        """Newest step of each series of the run's training."""
        self._most = -1
        """Largest step since the last resume."""

    def feed(self, tables: list[Points]) -> Iterator[list[Points] | RunMark]:
        """Tables and marks in order; a resume that was not marked has the text `INFERRED`."""
        while tables:
            before, tables, fell = self._at_fall(tables)
            yield from self._at_marks(before)
            if fell is not None:
                yield from self._resumed(fell)

    def rest(self) -> Iterator[RunMark]:
        """Marks behind the last point."""
        while self._pending:
            yield self._pending.popleft()

    def _at_fall(self, tables: list[Points]) -> tuple[list[Points], list[Points], int | None]:
        """What comes before steps go back, what after, and the step to which they went."""
        places: list[int | None] = []
        time, step = np.inf, None
        for points in tables:
            at = self._fall(points)
            places.append(at)
            if at is not None and points.times[at] < time:
                time, step = float(points.times[at]), int(points.steps[at])
        if step is None:
            self._note(tables)
            return tables, [], None
        before: list[Points] = []
        after: list[Points] = []
        for points, at in zip(tables, places, strict=True):
            if at is None:
                # Times of one life rise; where they do not tell, the whole table came before.
                at = int(np.searchsorted(np.maximum.accumulate(points.times), time, "left"))
            before += _part(points, 0, at)
            after += _part(points, at, len(points.steps))
        self._note(before)
        return before, after, step

    def _fall(self, points: Points) -> int | None:
        mine = [one.id for one in points.series if one.rank == 0 and one.stage == "train"]
        if not mine:
            return None
        known = max(self._last.get(one, -1) for one in mine)
        falls = np.flatnonzero(np.diff(points.steps, prepend=max(known, -1)) < 0)
        return int(falls[0]) if len(falls) else None

    def _note(self, tables: list[Points]) -> None:
        for points in tables:
            self._last.update((one.id, int(points.steps[-1])) for one in points.series)

    def _at_marks(self, tables: list[Points]) -> Iterator[list[Points] | RunMark]:
        while tables and self._pending:
            mark = self._pending[0]
            waits = mark.what == "resume" and mark.step <= self._most
            if waits or max(int(points.steps.max()) for points in tables) < mark.step:
                break
            before: list[Points] = []
            after: list[Points] = []
            for points in tables:
                late = points.steps >= mark.step
                at = int(late.argmax()) if late.any() else len(late)
                before += _part(points, 0, at)
                after += _part(points, at, len(late))
            if before:
                yield before
                self._reached(before)
            yield self._pending.popleft()
            tables = after
        if tables:
            yield tables
            self._reached(tables)

    def _reached(self, tables: list[Points]) -> None:
        self._most = max(self._most, *(int(points.steps.max()) for points in tables))

    def _resumed(self, step: int) -> Iterator[RunMark]:
        """The resume that was marked and the marks before it, or one that is inferred."""
        self._last.clear()
        self._most = -1
        if any(mark.what == "resume" for mark in self._pending):
            while self._pending:
                mark = self._pending.popleft()
                yield mark
                if mark.what == "resume":
                    return
        yield RunMark(run_id="", what="resume", step=step, at=0.0, text=INFERRED)


def _part(points: Points, start: int, stop: int) -> list[Points]:
    if start >= stop:
        return []
    if start == 0 and stop == len(points.steps):
        return [points]
    cut = slice(start, stop)
    return [Points(points.series, points.steps[cut], points.times[cut], points.values[:, cut])]
