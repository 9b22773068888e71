"""What every format gives: rows of one step each, in order, with marks between them.

`Rows` puts parts of one step together, keeps the clock and sees when a training went back to an
earlier step; `Windows` turns rows into the columns that rules read. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nanwatch.contract.frames import Mark
from nanwatch.contract.limits import SERIES_PER_RUN_MAX, STEP_MAX
from nanwatch_server.domain.models import Series
from nanwatch_server.domain.points import Points

OF_REPLAY = re.compile(
    r"(replay|buffer|memory|distill|(?<![a-z])der)[a-z_]*loss|loss[a-z_./]*(replay|buffer)"
)
"""Names that the rule `replay_health` looks for; a test holds them together, for a reader of files
may not know the rules."""

STAGES = ("train", "val")
"""Stages that rules read."""

WINDOW_ROWS = 256
"""Rows that the rules see at a time. What they find does not depend on it."""


class Row(NamedTuple):
    """Values of several series at one step."""

    step: int
    time: float
    ids: tuple[int, ...]
    """Places of the series in `Rows.series`."""
    values: Sequence[float]
    rank: int = 0


Item = Row | Mark


class Rows:
    """Rows of one run, in the order in which they were logged.

    `exact`: the file is an export of ours. Then only parts of one time are put together, and no
    step that goes back is taken for a resumed training.
    """

    def __init__(self, *, exact: bool = False, stand_in: float | None = None) -> None:
        self.series: list[Series] = []
        self.exact = exact
        self.clock: bool | None = None
        """True if the log has times, False if it has none, None as long as nobody knows."""
        self.refused = 0
        """Values of series beyond the most that a run may have."""
        self.negated: set[int] = set()
        """Series whose values come with the other sign."""
        self._sums: dict[int, list[int]] = {}
        """Series → those whose sum it is, in rows that have all of them."""
        self._stand_in = stand_in
        """Time of every row of a log without times; None: its step."""
        self._ids: dict[tuple[str, str, str, str, int], int] = {}
        self._out: list[Item] = []
        self._held: Row | None = None
        self._joined: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...] | None] = {}
        self._last: dict[tuple[int, ...], int] = {}
        self._time = math.nan
        self._place: tuple[int, float, int] = (-1, 0.0, 0)
        self._gathered: dict[int, float] = {}
        self.step = 0
        """Newest step."""

    def id_of(self, kind: str, scope: str, layer: str, stage: str = "train", rank: int = 0) -> int:
        """Place of a series; -1 if there are too many."""
        key = (kind, scope, layer, stage, rank)
        found = self._ids.get(key)
        if found is None:
            if len(self.series) >= SERIES_PER_RUN_MAX:
                return -1
            found = self._ids[key] = len(self.series)
            self.series.append(
                Series(
                    id=found, run_id="", rank=rank, stage=stage, scope=scope, kind=kind, layer=layer
                )
            )
        return found

    def sum_into(self, whole: int, part: int) -> None:
        """From now on `whole` is a sum, to which `part` belongs."""
        if min(whole, part) >= 0 and part not in (parts := self._sums.setdefault(whole, [])):
            parts.append(part)

    def is_whole(self, one: int) -> None:
        """The series was logged: it is no sum, or no longer one."""
        self._sums.pop(one, None)

    def add(
        self,
        step: int,
        time: float | None,
        ids: tuple[int, ...],
        values: Sequence[float],
        rank: int = 0,
    ) -> None:
        """Values of one step; of one that is held already they become one row with it."""
        if not ids:
            return
        if self.negated:
            pairs = zip(ids, values, strict=True)
            values = [-value if one in self.negated else value for one, value in pairs]
        at = self._at(step, time)
        held = self._held
        if held is not None:
            if held.step == step and held.rank == rank and (not self.exact or held.time == at):
                both = self._both(held.ids, ids)
                if both is not None:
                    self._held = Row(step, held.time, both, [*held.values, *values], rank)
                    return
            self._complete(held)
        if not self.exact:
            self._look_back(step, at, ids)
        self._held = Row(step, at, ids, values, rank)
        self.step = step

    def add_one(self, step: int, time: float, one: int, value: float, rank: int = 0) -> None:
        """A single value, in a format that has each by itself: gathered to a row first."""
        place = (step, time, rank)
        if place != self._place or one in self._gathered:
            self._gather()
            self._place = place
        self._gathered[one] = value

    def _gather(self) -> None:
        if self._gathered:
            step, time, rank = self._place
            gathered, self._gathered = self._gathered, {}
            self.add(step, time, tuple(gathered), list(gathered.values()), rank)

    def mark(self, mark: Mark) -> None:
        """A fact, behind the rows so far."""
        self._release()
        self._out.append(mark)
        if mark.what in ("resume", "fit", "task"):
            self._last.clear()  # said already that steps may go back

    def take(self) -> list[Item]:
        """What is complete; the newest row may still grow."""
        out, self._out = self._out, []
        return out

    def finish(self) -> list[Item]:
        """The rest."""
        self._release()
        return self.take()

    def time_of_mark(self, time: float | None) -> float:
        """Time of a mark that may have none."""
        if time is not None and self.clock is not False:
            return time
        return 0.0 if math.isnan(self._time) else self._time

    def _release(self) -> None:
        self._gather()
        if self._held is not None:
            self._complete(self._held)
            self._held = None

    def _complete(self, row: Row) -> None:
        """A row that nothing can be added to any more, but for its own sums."""
        for whole, parts in self._sums.items():
            at = [row.ids.index(one) for one in parts if one in row.ids]
            if len(at) == len(parts):
                total = sum(row.values[one] for one in at)
                row = row._replace(ids=(*row.ids, whole), values=[*row.values, total])
        self._out.append(row)

    def _at(self, step: int, time: float | None) -> float:
        if self.clock is None:
            self.clock = time is not None
        if not self.clock:
            self._time = float(step) if self._stand_in is None else self._stand_in
        elif time is not None:
            self._time = time
        return self._time

    def _both(self, held: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...] | None:
        """Ids of a row that grows; None if it has one of them already."""
        key = (held, more)
        if key not in self._joined:
            if len(self._joined) > 10_000:
                self._joined.clear()
            self._joined[key] = held + more if set(held).isdisjoint(more) else None
        return self._joined[key]

    def _look_back(self, step: int, at: float, ids: tuple[int, ...]) -> None:
        """The same series at an earlier step than before: the training was resumed there."""
        before = self._last.get(ids, -1)
        if step < before and any(self.series[one].stage == "train" for one in ids):
            text = f"resume: step {step} after {before}"
            self._out.append(Mark(what="resume", step=step, time=at, text=text))
            self._last.clear()
        elif len(self._last) > 10_000:
            self._last.clear()
        self._last[ids] = step


def usable_step(value: float) -> int | None:
    """A step as a whole number from 0 to 2^53 - 1; None if it is none."""
    if value == value and 0 <= value <= STEP_MAX and value == int(value):
        return int(value)
    return None


class _Lane:
    """Rows of one rank, stage and scope with the same series, until they are many."""

    def __init__(self, series: list[Series]) -> None:
        self._series = series
        self.ids: tuple[int, ...] = ()
        self.steps: list[int] = []
        self.times: list[float] = []
        self.values: list[Sequence[float]] = []
        self.done: list[Points] = []

    def add(self, ids: tuple[int, ...], row: Row, values: Sequence[float]) -> None:
        if ids is not self.ids and ids != self.ids:
            self.close()
            self.ids = ids
        self.steps.append(row.step)
        self.times.append(row.time)
        self.values.append(values)

    def close(self) -> None:
        """Rows so far become columns."""
        if self.steps:
            self.done.append(
                Points(
                    tuple(self._series[one] for one in self.ids),
                    np.array(self.steps, np.int64),
                    np.array(self.times, np.float64),
                    np.ascontiguousarray(np.array(self.values, np.float64).T),
                )
            )
            self.steps, self.times, self.values = [], [], []


class _Cut(NamedTuple):
    """Which values of a row go into which lane."""

    lane: _Lane
    ids: tuple[int, ...]
    positions: tuple[int, ...] | None
    """None: all of them."""


def is_read(kind: str, layer: str) -> bool:
    """False for a name of the user's own that no rule may look for.

    `replay_health` compares a loss on replayed samples with the loss, and finds it by its name.
    Every other name would only cut the tables: a series that comes now and then parts the rows.
    """
    return kind != "custom" or OF_REPLAY.search(layer.lower()) is not None


class Windows:
    """Rows as the rules want them: per scope, in columns, a bounded number at a time.

    What no rule reads (most custom names, other stages than train) is left out.
    """

    def __init__(self, series: list[Series]) -> None:
        self._series = series
        self._lanes: dict[tuple[int, str, str], _Lane] = {}
        self._cuts: dict[tuple[int, ...], list[_Cut]] = {}
        self._rows = 0

    def feed(self, items: Iterable[Item]) -> Iterator[list[Points] | Mark]:
        """Full windows and marks, in order."""
        for item in items:
            if isinstance(item, Mark):
                yield from self.flush()
                yield item
                continue
            for lane, ids, positions in self._cut(item.ids):
                values = item.values
                if positions is not None:
                    values = [values[at] for at in positions]
                lane.add(ids, item, values)
            self._rows += 1
            if self._rows >= WINDOW_ROWS:
                yield from self.flush()

    def flush(self) -> Iterator[list[Points]]:
        """The window as far as it goes."""
        tables: list[Points] = []
        for lane in self._lanes.values():
            lane.close()
            tables += lane.done
            lane.done = []
        self._rows = 0
        if tables:
            yield tables

    def _cut(self, ids: tuple[int, ...]) -> list[_Cut]:
        found = self._cuts.get(ids)
        if found is None:
            if len(self._cuts) > 10_000:
                self._cuts.clear()
            found = self._cuts[ids] = self._cut_anew(ids)
        return found

    def _cut_anew(self, ids: tuple[int, ...]) -> list[_Cut]:
        parts: dict[tuple[int, str, str], list[int]] = {}
        for at, one in enumerate(ids):
            series = self._series[one]
            if series.stage in STAGES and is_read(series.kind, series.layer):
                parts.setdefault((series.rank, series.stage, series.scope), []).append(at)
        cuts: list[_Cut] = []
        for key, positions in parts.items():
            lane = self._lanes.setdefault(key, _Lane(self._series))
            whole = len(positions) == len(ids)
            mine = ids if whole else tuple(ids[at] for at in positions)
            cuts.append(_Cut(lane, mine, None if whole else tuple(positions)))
        return cuts
