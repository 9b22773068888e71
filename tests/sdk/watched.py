"""A run whose records the tests of the SDK read themselves, without background thread or server."""

from __future__ import annotations

from array import array

from nanwatch.contract.frames import Mark, NonFinite, Table
from nanwatch.run import Run


class Watched:
    """A run without a background thread, whose records the test reads itself."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.marks: list[Mark] = []
        self.reports: list[NonFinite] = []
        self.points: dict[tuple[str, str, str], list[tuple[int, float]]] = {}

    def read(self) -> Watched:
        """Take everything recorded so far."""
        names = {}
        for record in self.run.recorder.drain(final=True):
            names = {d.id: (d.kind, d.scope, d.layer) for d in self.run.recorder.catalog.all()}
            if isinstance(record, Table):
                self._table(record, names)
            elif isinstance(record, Mark):
                self.marks.append(record)
            elif isinstance(record, NonFinite):
                self.reports.append(record)
        return self

    def _table(self, table: Table, names: dict[int, tuple[str, str, str]]) -> None:
        steps, values = array("q", table.steps), array("d", table.values)
        for row, number in enumerate(table.ids):
            column = values[row * len(steps) : (row + 1) * len(steps)]
            self.points.setdefault(names[number], []).extend(zip(steps, column, strict=True))

    def series(self, kind: str, scope: str = "", layer: str = "") -> list[tuple[int, float]]:
        """(step, value) of one series."""
        return self.points.get((kind, scope, layer), [])

    def values(self, kind: str, scope: str = "", layer: str = "") -> list[float]:
        """Values of one series."""
        return [value for _, value in self.series(kind, scope, layer)]
