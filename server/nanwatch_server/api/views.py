"""Puts together what the run pages and the live socket show of runs and incidents."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, Request

from nanwatch_server.api.ranks import ranks_json
from nanwatch_server.api.schemas import incident_json, run_detail, run_summary, stored_report
from nanwatch_server.api.vitals import Vitals
from nanwatch_server.domain.models import LOST_AFTER_S, Incident, Run, RunStatus
from nanwatch_server.domain.ports import Signs, Store
from nanwatch_server.incidents.grouping import explains
from nanwatch_server.live.frames import FrameWriter
from nanwatch_server.live.presence import PresenceBook
from nanwatch_server.live.wall import COLUMNS

WALL_RUNS_MAX = 200
WALL_FRESH_S = 0.5


class Views:
    """Thread-safe."""

    def __init__(
        self,
        store: Store,
        presence: PresenceBook,
        vitals: Vitals,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._presence, self._vitals, self._clock = store, presence, vitals, clock
        self._wall_lock = threading.Lock()
        self._wall: tuple[float, tuple[bytes, int]] | None = None

    def summaries(self, runs: list[Run]) -> list[dict[str, Any]]:
        """RunSummary of each."""
        open_of: dict[str, list[Incident]] = {}
        asked = [run.id for run in runs]
        for incident in self._store.incidents(run_ids=asked, open_only=True):
            open_of.setdefault(incident.run_id, []).append(incident)
        now = self._clock()
        return [
            run_summary(run, self._presence.of(run.id), open_of.get(run.id, []), now)
            for run in runs
        ]

    def page(
        self, *, query: str, project: str, status: str, limit: int, after: str
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of the list of runs.

        The status is not stored: the database sorts out most, and the rest is sieved here.
        """
        found: list[dict[str, Any]] = []
        more: str | None = after
        signs = self._signs(status)
        while more is not None and len(found) < limit:
            runs, more = self._store.runs(
                query=query, project=project, limit=limit - len(found), after=more, signs=signs
            )
            summaries = self.summaries(runs)
            found += [one for one in summaries if not status or one["status"] == status]
        return found, more

    def _signs(self, status: str) -> Signs | None:
        """What the database can tell of runs of this status."""
        if not status:
            return None
        if status == RunStatus.ENDED:
            return Signs(ended=True)
        since = self._clock() - LOST_AFTER_S
        if status == RunStatus.LOST:
            return Signs(seen_before=since)
        return Signs(seen_since=since, or_these=self._presence.connected_runs())

    def detail(self, run: Run) -> dict[str, Any]:
        """RunDetail."""
        series = self._vitals.series(run.id)
        return run_detail(
            run,
            self._presence.of(run.id),
            self._store.incidents(run_id=run.id, open_only=True),
            self._clock(),
            series=series,
            main_scope=self._vitals.main_scope(run, series),
            ranks=ranks_json(self._store.ranks(run.id), self._presence.of(run.id).ranks),
        )

    def incident(self, incident: Incident) -> dict[str, Any]:
        """Incident."""
        run = self._store.run(incident.run_id)
        found = [
            stored_report(row)
            for row in self._store.reports(incident.run_id, "forensics")
            if explains(row["step"], incident)
        ]
        return incident_json(incident, run.name if run else "", found)

    def explained(self, run_id: str, step: int) -> list[Incident]:
        """Incidents of the run that forensics of this step belong to."""
        return [one for one in self._store.incidents(run_id=run_id) if explains(step, one)]

    def status(self, run_id: str) -> str:
        """The run's status now; empty if there is no such run."""
        run = self._store.run(run_id)
        return "" if run is None else self.summaries([run])[0]["status"]

    def wall(self, *, fresh: bool = True) -> tuple[bytes, int]:
        """The `wall` frame (newest runs, vitals, sparklines), and a number that changes with it.

        Ages grow by themselves and do not count as a change. Not `fresh`: one made within the
        last half second will do, so that a hundred browsers that open at once cost one.
        """
        with self._wall_lock:
            if fresh or self._wall is None or time.monotonic() - self._wall[0] > WALL_FRESH_S:
                made = self._make_wall()
                self._wall = (time.monotonic(), made)
            return self._wall[1]

    def _make_wall(self) -> tuple[bytes, int]:
        runs, _ = self._store.runs(limit=WALL_RUNS_MAX)
        frame = FrameWriter("wall")
        rows = [self._vitals.wall_row(run) for run in runs]
        offset = frame.add([row for row, _ in rows])
        sparks = {
            run.id: {"n": len(spark), "offset": frame.add(spark)}
            for run, (_, spark) in zip(runs, rows, strict=True)
        }
        summaries = [one | {"row": i} for i, one in enumerate(self.summaries(runs))]
        age = COLUMNS.index("age_s")
        numbers = b"".join(np.delete(row, age).tobytes() + spark.tobytes() for row, spark in rows)
        data = frame.finish(runs=summaries, columns=list(COLUMNS), vitals=offset, sparks=sparks)
        return data, hash((repr(summaries), numbers))


async def _views(request: Request) -> Views:
    return request.app.state.views


ViewsDep = Annotated[Views, Depends(_views)]
