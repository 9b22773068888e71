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
        self.staged: dict[tuple[str, str, str, str], list[tuple[int, float]]] = {}
        """The same by (stage, kind, scope, layer)."""

    def read(self) -> Watched:
        """Take everything recorded so far."""
        names: dict[int, tuple[str, str, str, str]] = {}
        for record in self.run.recorder.drain(final=True):
            names = {
                d.id: (d.stage, d.kind, d.scope, d.layer) for d in self.run.recorder.catalog.all()
            }
            if isinstance(record, Table):
                self._table(record, names)
            elif isinstance(record, Mark):
                self.marks.append(record)
            elif isinstance(record, NonFinite):
                self.reports.append(record)
        return self

    def _table(self, table: Table, names: dict[int, tuple[str, str, str, str]]) -> None:
        steps, values = array("q", table.steps), array("d", table.values)
        for row, number in enumerate(table.ids):
            column = values[row * len(steps) : (row + 1) * len(steps)]
            found = list(zip(steps, column, strict=True))
            self.points.setdefault(names[number][1:], []).extend(found)
            self.staged.setdefault(names[number], []).extend(found)

    def series(self, kind: str, scope: str = "", layer: str = "") -> list[tuple[int, float]]:
        """(step, value) of one series."""
        return self.points.get((kind, scope, layer), [])

    def of_stage(
        self, stage: str, kind: str, scope: str = "", layer: str = ""
    ) -> list[tuple[int, float]]:
        """(step, value) of one series of one stage."""
        return self.staged.get((stage, kind, scope, layer), [])

    def values(self, kind: str, scope: str = "", layer: str = "") -> list[float]:
        """Values of one series."""
        return [value for _, value in self.series(kind, scope, layer)]
