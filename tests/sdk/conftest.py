"""Fixtures of the SDK tests: a private data directory, and a guard that raises instead of counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nanwatch
from nanwatch.contract.frames import Mark, NonFinite, Table
from nanwatch.guard import GUARD, Guard
from nanwatch.run import Run


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NANWATCH_URL", "NANWATCH_TOKEN", "NANWATCH_MODE", "NANWATCH_LAUNCH_CONTROL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NANWATCH_DATA_DIR", str(tmp_path / "data"))
    GUARD.clear()
    monkeypatch.setattr(Guard, "reraise", True)
    yield
    assert not GUARD.counts, f"internal errors were swallowed: {GUARD.counts}"


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
        from array import array

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


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    """Makes runs whose hooks are installed and whose background thread is not started."""
    runs: list[Run] = []

    def make(**options: Any) -> Watched:
        from nanwatch.config import resolve

        settings: dict[str, Any] = {
            "project": "test",
            "name": None,
            "config": None,
            "control": nanwatch.Control(lr=(1e-6, 10.0), checkpoint=True, stop=True),
            "server": None,
            "token": None,
            "mode": "offline",
        }
        run = Run(resolve(**{**settings, **options}, run_id="0" * 32), "0" * 32)
        run.hooks.install()
        runs.append(run)
        return Watched(run)

    yield make
    for run in runs:
        run.observer.enabled = False
        run.hooks.remove()
