"""Rule 15: nothing comes any more. Silence against the pace of the run so far.

One per run, not per scope, and asked about a time rather than fed a record: the server asks while
a run is live, an importer when a log says when observation ended. Pure: time is a parameter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.robust import Ring, middle
from nanwatch_server.detect.state import Stateful
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding, Severity

NAME = "stall"
GAPS = 128


class Stall(Stateful):
    """Times between attempts, and what silence after the last one means."""

    STATE = ("last", "last_step", "gaps", "longest", "paused", "level")

    def __init__(self, run_id: str, limits: dict[str, Any]) -> None:
        self.run_id = run_id
        self.limits = limits
        self.last = math.nan
        """Client wall clock of the newest attempt."""
        self.last_step = -1
        self.gaps = Ring(1, GAPS)
        self.longest = 0.0
        self.paused = False
        """An evaluation was announced, which may take long."""
        self.level = 0

    def read(self, block: Block) -> list[Finding]:
        """Times of a block; an all-clear if it ends a silence."""
        times = block.times[block.times > self.last] if self.last == self.last else block.times
        if not len(times):
            return []
        found = self._cleared(block) if self.level else []
        gaps = np.diff(times) if math.isnan(self.last) else np.diff(times, prepend=self.last)
        gaps = gaps[gaps > 0]
        if gaps.size:
            self.gaps.push(gaps[None, -GAPS:])
            self.longest = max(self.longest, float(gaps.max()))
        self.last, self.last_step = float(times[-1]), int(block.steps[-1])
        self.paused = False
        return found

    def pause(self) -> None:
        """An evaluation begins or ends: the next silence may be long."""
        self.paused = True

    def coverage(self) -> dict[str, Any]:
        """As the rules say it."""
        records, needed = self.gaps.count, self.limits["records"]
        why = "" if records >= needed else f"{records} gaps between attempts, {needed} needed"
        return {"rule": NAME, "scope": "", "ran": not why, "records": records, "why": why}

    def limit(self, floor_s: float) -> float:
        """Silence that warns, in seconds; NaN while the pace is unknown."""
        limits = self.limits
        if self.gaps.count < limits["records"]:
            return math.nan
        usual = limits["times"] * middle(self.gaps.window(GAPS)[0])
        limit = max(floor_s, usual, limits["longest"] * self.longest)
        return limit * (limits["paused"] if self.paused else 1.0)

    def quiet_until(self, time: float, floor_s: float) -> list[Finding]:
        """What it means that nothing came until `time` (client wall clock)."""
        limit, silence = self.limit(floor_s), time - self.last
        if not silence >= limit:  # also while either is unknown
            return []
        level = 3 if silence >= self.limits["critical"] * limit else 2
        if level <= self.level:
            return []
        self.level = level
        return [self._finding(time, silence, limit)]

    def _finding(self, time: float, silence: float, limit: float) -> Finding:
        usual = middle(self.gaps.window(GAPS)[0])
        return Finding(
            run_id=self.run_id,
            rule=NAME,
            severity=Severity(self.level),
            step=max(0, self.last_step),
            onset_step=max(0, self.last_step),
            time=time,
            title=f"No attempt for {short(silence)} s, usually one every {short(usual)} s",
            message=(
                f"The last attempt, {self.last_step}, is {number(round(silence, 1))} s ago; the "
                f"median gap is {number(usual)} s, the longest so far {number(self.longest)} s. A "
                "blocked data loader, a deadlock between processes or a collective that waits for "
                "a lost rank are the usual reasons."
            ),
            kind="step_time",
            evidence=(
                Evidence(
                    label="Silence",
                    value=f"{number(round(silence, 1))} s",
                    limit=f"{number(round(limit, 1))} s",
                    kind="step_time",
                ),
            ),
        )

    def _cleared(self, block: Block) -> list[Finding]:
        level, self.level = self.level, 0
        step = int(block.steps[0])
        return [
            Finding(
                run_id=self.run_id,
                rule=NAME,
                severity=Severity(level),
                step=step,
                onset_step=max(0, self.last_step),
                time=float(block.times[0]),
                title="Attempts come again",
                message=f"Attempts come again from step {step}; the last before was "
                f"{self.last_step}.",
                kind="step_time",
                cleared=True,
            )
        ]
