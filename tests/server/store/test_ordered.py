"""Points of a run in the order in which they came, woven into records, with its marks."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import RunMark, Series, Stream
from nanwatch_server.domain.points import Points
from nanwatch_server.store import ordered
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.ordered import OrderedRun, moment
from nanwatch_server.store.pieces import INFERRED, Pieces
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from nanwatch_server.store.weave import weave
from tests.server.wire import RUN, table


def one(number: int, kind: str = "loss", scope: str = "") -> Series:
    return Series(id=number, run_id=RUN, rank=0, stage="train", scope=scope, kind=kind, layer="")


def points(series: list[Series], steps: Any, times: Any = None) -> Points:
    steps = np.asarray(steps, np.int64)
    times = steps * 1.0 if times is None else np.asarray(times, np.float64)
    values = np.array([steps * 10.0 + s.id for s in series])
    return Points(tuple(series), steps, times, values)


def rows(woven: list[Points]) -> list[tuple[int, tuple[int, ...]]]:
    """(step, ids) of each record."""
    return [(s, tuple(x.id for x in p.series)) for p in woven for s in p.steps.tolist()]


def test_series_with_different_steps_become_records_again() -> None:
    every, eighth, none = one(1), one(2, "lr"), one(3, "reward")
    woven = weave(
        [points([every], range(20)), points([eighth], range(0, 20, 8)), points([none], [30])],
        lambda s: s.scope,
    )
    both = {0, 8, 16}
    assert rows(woven) == [
        *((n, (1, 2) if n in both else (1,)) for n in range(20)),
        (30, (3,)),
    ]
    for part in woven:
        for series, values in zip(part.series, part.values, strict=True):
            assert values.tolist() == [10.0 * n + series.id for n in part.steps.tolist()]


def test_scopes_stay_apart_and_repeated_steps_stay_in_order() -> None:
    a, b, q = one(1), one(2, "lr"), one(3, scope="q")
    times = [0.0, 1.0, 1.0, 2.0, 3.0]
    woven = weave(
        [
            points([a, q], [0, 1, 1, 2, 1], times),
            points([b], [1, 1, 1], [1.0, 1.0, 3.0]),
        ],
        lambda s: s.scope,
    )
    mine = [part for part in woven if part.series[0].scope == ""]
    assert rows(mine) == [(0, (1,)), (1, (1, 2)), (1, (1, 2)), (2, (1,)), (1, (1, 2))]
    assert rows(woven[len(mine) :]) == [(n, (3,)) for n in (0, 1, 1, 2, 1)]


def mark(what: str, step: int) -> RunMark:
    return RunMark(run_id=RUN, what=what, step=step, at=1e9)


def told(marks: list[RunMark], *tables: Points) -> list[Any]:
    pieces = Pieces(marks)
    out: list[Any] = []
    for part in tables:
        for piece in pieces.feed([part]):
            out.append(
                (piece.what, piece.text == INFERRED)
                if isinstance(piece, RunMark)
                else [s for p in piece for s in p.steps.tolist()]
            )
    return out + [(piece.what, False) for piece in pieces.rest()]


def test_marks_stand_before_their_step_and_behind_their_resume() -> None:
    a = [one(1)]
    marks = [mark("config", 0), mark("task", 3), mark("resume", 2), mark("task", 4)]
    marks.append(mark("note", 90))
    lived = [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]
    assert told(marks, points(a, lived, range(10))) == [
        *(("config", False), [0, 1, 2], ("task", False), [3, 4, 5], ("resume", False)),
        *([2, 3], ("task", False), [4, 5], ("note", False)),
    ]
    assert told([], points(a, lived[:6], range(6)), points(a, lived[6:], range(6, 10))) == [
        *([0, 1, 2, 3, 4, 5], ("resume", True), [2, 3, 4, 5]),
    ]


def test_many_series_in_bounded_memory(store: SqlStore, monkeypatch: Any) -> None:
    """200 series of 20,000 points (32 MB) after compaction, in rounds of 1 MB: two chunks each."""
    count, n = 200, 20_000
    stream = Stream(run_id=RUN, rank=0, epoch=1)
    with store.write() as uow:
        uow.upsert_run(f.RunInfo(id=RUN, project="p", name="n", started_at=1.0), None, 1.0)
        decls = [f.SeriesDecl(i, "custom", "", f"s{i}") for i in range(count)]
        uow.declare(stream, decls)
        for number, low in enumerate(range(0, n, 400)):
            grid = np.arange(low, low + 400.0) + np.arange(count)[:, None]
            record = table(list(range(count)), range(low, low + 400), grid)
            frame = f.encode(f.Batch(lane="scalars", first=number, records=[record]))
            uow.append_journal(stream, "scalars", number, number, frame, 1.0)
    history = History(store.readers, cache_bytes=1 << 20)
    tail = Tail(store, history)
    while compact(store, history, tail, RUN, 1 << 60)[1]:
        pass
    for held in (True, False):
        monkeypatch.setattr(ordered, "HELD_SERIES", count if held else 10)
        monkeypatch.setattr(ordered, "ROUND_VALUES", 1 << 17)
        tracemalloc.start()
        with moment(store.readers) as reads:
            seen = dict.fromkeys(range(count), 0)
            for tables in OrderedRun(reads, RUN).rounds():
                for part in tables:
                    numbers = [int(one.layer[1:]) for one in part.series]
                    start = seen[numbers[0]]
                    stop = start + len(part.steps)
                    assert (part.steps == np.arange(start, stop)).all()
                    assert (part.values == part.steps + np.array(numbers)[:, None]).all()
                    seen |= dict.fromkeys(numbers, stop)
            assert set(seen.values()) == {n}
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 18e6, f"{peak / 1e6:.0f} MB with held={held}"
