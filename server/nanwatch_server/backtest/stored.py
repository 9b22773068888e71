"""Stored runs through other limits: what a project's rules would have found.

Reads one moment of the database, also while a server writes; changes nothing. Called by
`nanwatch check RUN_ID | --last N` and by the API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nanwatch.contract.frames import Mark
from nanwatch_server.backtest.trial import Trial, Verdict
from nanwatch_server.detect.registry import STAGES
from nanwatch_server.domain.models import Incident, Run, RunMark, Series, Severity
from nanwatch_server.domain.points import Points
from nanwatch_server.importers.rows import is_read
from nanwatch_server.store.ordered import Moment, OrderedRun
from nanwatch_server.store.pieces import Pieces
from nanwatch_server.store.weave import weave

Progress = Callable[[int, int], None]
LAST_MOST = 1_000
RUNS_A_PAGE = 200


@dataclass(frozen=True)
class Replayed:
    """One stored run and what the rules make of it."""

    run: Run
    verdict: Verdict
    before: tuple[Incident, ...]
    """Incidents that the run has."""
    dropped: int
    """Points that retention has taken: the rules cannot see them."""
    trial: Trial

    @property
    def fired(self) -> tuple[Incident, ...]:
        """Incidents of warning or worse."""
        return tuple(one for one in self.verdict.incidents if one.severity >= Severity.WARNING)


def replay_run(
    reads: Moment,
    run: Run,
    thresholds: dict[str, dict[str, Any]] | None = None,
    progress: Progress = lambda done, total: None,
) -> Replayed:
    """A run through the rules, with these limits on top of the packaged ones."""
    ordered = OrderedRun(reads, run.id)
    trial = Trial({**run.facts, **run.config}, thresholds, run_id=run.id)
    pieces = Pieces(ordered.marks())
    done = 0
    for tables in ordered.rounds():
        for piece in pieces.feed(tables):
            _judge(trial, piece)
        done += sum(points.values.size for points in tables)
        progress(done, max(ordered.total, done))
    for mark in pieces.rest():
        _judge(trial, mark)
    before = tuple(reads.incidents(run_id=run.id)[::-1])
    return Replayed(run, trial.verdict(), before, ordered.dropped, trial)


def last_runs(reads: Moment, project: str, count: int) -> list[Run]:
    """The newest runs (of a project), newest first."""
    found: list[Run] = []
    after = ""
    while len(found) < count:
        page, more = reads.runs(
            project=project, limit=min(count - len(found), RUNS_A_PAGE), after=after
        )
        found += page
        if not more:
            break
        after = more
    return found


def replay_runs(
    reads: Moment,
    runs: Sequence[Run],
    thresholds: dict[str, dict[str, Any]] | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[Replayed]:
    """Several runs, one after the other; `progress` counts runs."""
    for number, run in enumerate(runs):
        progress(number, len(runs))
        yield replay_run(reads, run, thresholds)
    progress(len(runs), len(runs))


def plain(replayed: Sequence[Replayed]) -> dict[str, Any]:
    """As JSON: per run what `check` prints, and how often the rules would have fired."""
    return {
        "runs": [
            {"run": one.run.id, "name": one.run.name, "project": one.run.project}
            | one.verdict.plain()
            for one in replayed
        ],
        "fired": sum(len(one.fired) for one in replayed),
        "runs_fired": sum(bool(one.fired) for one in replayed),
        "of": len(replayed),
    }


def sentence(replayed: Sequence[Replayed]) -> str:
    """`would have fired 3× on the last 10 runs`."""
    return sentence_of([len(one.fired) for one in replayed])


def sentence_of(fired: Sequence[int]) -> str:
    """The same of numbers of incidents, one for each run."""
    total, runs, count = sum(fired), sum(bool(one) for one in fired), len(fired)
    of = "1 run" if count == 1 else f"the last {count} runs"
    where = f", in {runs} of them" if total and count > 1 else ""
    return f"would have fired {total}× on {of}{where}"


def _judge(trial: Trial, piece: list[Points] | RunMark) -> None:
    if isinstance(piece, RunMark):
        what: Any = piece.what
        trial.mark(
            Mark(what=what, step=piece.step, time=piece.at, text=piece.text, data=piece.data)
        )
        return
    judged = [kept for points in piece if (kept := _judged(points)) is not None]
    if judged:
        trial.window(weave(judged, _lane))


def _lane(series: Series) -> tuple[int, str, str]:
    return series.rank, series.stage, series.scope


def _judged(points: Points) -> Points | None:
    """What rules read: names of the user's own only where they may be a loss that a rule looks
    for, and no stage that no rule reads."""
    rows = [
        row
        for row, one in enumerate(points.series)
        if one.stage in STAGES and is_read(one.kind, one.layer)
    ]
    if len(rows) == len(points.series):
        return points
    if not rows:
        return None
    series = tuple(points.series[row] for row in rows)
    return points._replace(series=series, values=points.values[rows])
