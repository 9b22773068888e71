"""The newest numbers of a run for the wall, the run page and the command desk, from the tail."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from nanwatch.contract.frames import NonFinite
from nanwatch_server.domain.models import Run, Series
from nanwatch_server.domain.ports import Store
from nanwatch_server.live.presence import Presence, PresenceBook
from nanwatch_server.live.wall import COLUMNS, SPARK_BUCKETS, spark, vitals
from nanwatch_server.store.tail import Tail

SERIES_TTL_S = 1.0
SERIES_RUNS_MAX = 512
_NONE = (np.empty(0, np.int64), np.empty(0), np.empty(0))


class Vitals:
    """Thread-safe; remembers the series of a run for a second."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        presence: PresenceBook,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._tail, self._presence, self._clock = store, tail, presence, clock
        self._series: dict[str, tuple[float, list[Series], frozenset[int]]] = {}
        self._wall_rows: dict[str, tuple[tuple, np.ndarray, np.ndarray]] = {}

    def series(self, run_id: str) -> list[Series]:
        """All series of the run, at most a second old."""
        return self._known(run_id)[1]

    def series_ids(self, run_id: str) -> frozenset[int]:
        """Their numbers."""
        return self._known(run_id)[2]

    def forget(self, run_id: str) -> None:
        """The run was deleted."""
        self._series.pop(run_id, None)

    def _known(self, run_id: str) -> tuple[float, list[Series], frozenset[int]]:
        known = self._series.get(run_id)
        if known is None or time.monotonic() - known[0] > SERIES_TTL_S:
            if len(self._series) >= SERIES_RUNS_MAX:
                self._series.clear()
            # The series of a deleted run go in the background.
            found = self._store.series_of(run_id) if self._store.run(run_id) else []
            known = (time.monotonic(), found, frozenset(one.id for one in found))
            self._series[run_id] = known
        return known

    def main_scope(self, run: Run, series: list[Series]) -> str:
        """The scope whose attempts are the run's clock."""
        said = run.facts.get("main_scope")
        if said is not None:
            return said
        for kind in ("lr", "loss", "grad_norm"):
            for one in series:
                if one.kind == kind and one.rank == 0 and one.stage == "train":
                    return one.scope.split("#")[0]
        return ""

    def wall_row(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """Vitals and sparkline; counted anew only when the run has shown a sign of life."""
        presence = self._presence.of(run.id)
        seen_at = max(run.last_seen_at, presence.last_seen_at)
        sign = (seen_at, max(run.last_step, presence.last_step), presence.connections)
        known = self._wall_rows.get(run.id)
        if known is None or known[0] != sign or presence.connections:
            known = self._wall_rows[run.id] = (sign, *self._wall_row(run, presence))
        row = known[1].copy()
        row[COLUMNS.index("age_s")] = self._clock() - seen_at
        return row, known[2]

    def _wall_row(self, run: Run, presence: Presence) -> tuple[np.ndarray, np.ndarray]:
        series = self.series(run.id)
        scope = self.main_scope(run, series)
        ids = {
            one.kind: one.id
            for one in reversed(series)
            if one.rank == 0 and one.stage == "train" and not one.layer and one.scope == scope
        }

        def newest(kind: str, count: int):
            return self._tail.newest(run.id, ids[kind], count) if kind in ids else _NONE

        row = vitals(
            newest,
            step=max(run.last_step, presence.last_step),
            age_s=0.0,
            nonfinite_total=self._nonfinite(run.id),
        )
        return row, spark(newest("loss", 100 * SPARK_BUCKETS)[2])

    def _nonfinite(self, run_id: str) -> float:
        total = 0
        for report in self._store.reports(run_id, "nonfinite"):
            record = msgspec.msgpack.decode(report["data"], type=NonFinite)
            total += record.nan + record.inf
        return float(total)

    def rates(self, run_id: str) -> tuple[dict[str, float], dict[str, float]]:
        """Learning rates in force and as scheduled, by scope (and group)."""
        found: dict[str, dict[str, float]] = {"lr": {}, "lr_scheduled": {}}
        for one in self.series(run_id):
            if one.kind in found and one.rank == 0:
                values = self._tail.newest(run_id, one.id, 1).values
                name = f"{one.scope}#{one.layer}" if one.layer else one.scope
                if len(values) and np.isfinite(values[-1]):
                    found[one.kind][name] = float(values[-1])
        return found["lr"], found["lr_scheduled"]

    def median_step(self, run_id: str) -> float | None:
        """Median time between two attempts in seconds, over the newest 200."""
        for one in self.series(run_id):
            if one.kind == "step_time" and one.rank == 0:
                values = self._tail.newest(run_id, one.id, 200).values
                values = values[np.isfinite(values)]
                return float(np.median(values)) if len(values) else None
        return None
