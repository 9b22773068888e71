"""Queries over points: nothing lost on the screen, the same picture each time, bounded memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store.buckets import COLUMNS, bucketed, width_for
from nanwatch_server.store.history import History
from nanwatch_server.store.replay import points_of
from nanwatch_server.store.tail import Tail
from tests.server.wire import RUN, table

STREAM = Stream(run_id=RUN, rank=0, epoch=1)

numbers = st.one_of(
    st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e-320])
)


def slowly(steps, values, width):
    """The definition of a bucket, point by point."""
    rows: dict[int, list[tuple[int, float]]] = {}
    for step, value in zip(steps, values, strict=True):
        rows.setdefault(step // width, []).append((step, value))
    for points in rows.values():
        finite = [(step, value) for step, value in points if math.isfinite(value)]
        low = min(finite, key=lambda p: p[1], default=(math.nan, math.nan))
        high = max(finite, key=lambda p: p[1], default=(math.nan, math.nan))
        yield {
            "first_step": points[0][0],
            "last_step": points[-1][0],
            "last_time": points[-1][0] / 2,
            "min": low[1],
            "max": high[1],
            "min_step": low[0],
            "max_step": high[0],
            "first": finite[0][1] if finite else math.nan,
            "last": finite[-1][1] if finite else math.nan,
            "sum": sum(value for _, value in finite) if finite else math.nan,
            "count": len(points),
            "nan": sum(math.isnan(value) for _, value in points),
            "pinf": sum(value == math.inf for _, value in points),
            "ninf": sum(value == -math.inf for _, value in points),
        }


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), numbers), min_size=1, max_size=80),
    st.sampled_from([1, 2, 8, 64, 256]),
)
def test_buckets_are_what_their_definition_says(points, width):
    points.sort(key=lambda point: point[0])
    steps, values = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    columns = bucketed(steps, steps / 2, values, width)
    wanted = list(slowly(steps.tolist(), values.tolist(), width))
    for name in COLUMNS:
        expected = np.array([one[name] for one in wanted], np.float64)
        if name == "sum":  # numpy adds in another order
            scale = max((abs(p[1]) for p in points if math.isfinite(p[1])), default=0.0)
            if scale < 1e290:  # beyond, sums overflow, here or there
                np.testing.assert_allclose(columns[name], expected, rtol=1e-9, atol=1e-9 * scale)
        else:
            np.testing.assert_array_equal(columns[name], expected, err_msg=name)


@given(st.integers(0, 1 << 53), st.integers(0, 1 << 40), st.integers(2, 5000))
def test_a_range_never_has_more_buckets_than_asked(x0, length, buckets):
    width = width_for(x0, x0 + length, buckets)
    assert (x0 + length) // width - x0 // width + 1 <= buckets
    assert width & (width - 1) == 0


@pytest.fixture
def run(store):
    """A store with one declared run, and a function that commits points to its journal."""
    with store.write() as uow:
        info = f.RunInfo(id=RUN, project="p", name="n", started_at=1.0)
        uow.upsert_run(info, None, 1.0)
        series = uow.declare(STREAM, [f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "lr")])
    numbered = iter(range(1 << 30))

    def commit(ids, steps, values):
        record, seq = table(ids, steps, values), next(numbered)
        frame = f.encode(f.Batch(lane="scalars", first=seq, records=[record]))
        with store.write() as uow:
            row = uow.append_journal(STREAM, "scalars", seq, seq, frame, 1.0)
        return row, [points_of(record, series)]

    return commit, series


def test_a_spike_and_a_single_nan_show_in_the_widest_view(store, run):
    commit, series = run
    values = np.sin(np.arange(100_000) / 500.0)
    values[54_321], values[77_777], values[3] = 1e6, math.nan, -math.inf
    for begin in range(0, 100_000, 4096):
        part = slice(begin, begin + 4096)
        commit([1], np.arange(100_000)[part], [values[part]])
    columns = Tail(store, History(store.readers)).query(RUN, series[1].id, None, None, 500).buckets
    assert columns is not None and len(columns["min"]) <= 500
    assert columns["max"].max() == 1e6
    assert columns["max_step"][columns["max"].argmax()] == 54_321
    assert columns["nan"].sum() == 1 and columns["ninf"].sum() == 1 and columns["pinf"].sum() == 0
    assert columns["count"].sum() == 100_000
    hit = np.flatnonzero(columns["nan"])[0]
    assert columns["first_step"][hit] <= 77_777 <= columns["last_step"][hit]


def test_new_points_change_only_the_last_bucket(store, run):
    commit, series = run
    tail = Tail(store, History(store.readers))
    values = np.random.default_rng(1).normal(size=3000)
    tail.append(RUN, *commit([1], np.arange(2000), [values[:2000]]))
    before = tail.query(RUN, series[1].id, 0, 2999, 100).buckets
    tail.append(RUN, *commit([1], np.arange(2000, 3000), [values[2000:]]))
    after = tail.query(RUN, series[1].id, 0, 2999, 100).buckets
    again = Tail(store, History(store.readers)).query(RUN, series[1].id, 0, 2999, 100).buckets
    assert before is not None and after is not None and again is not None
    for name in COLUMNS:
        np.testing.assert_array_equal(after[name], again[name])  # memory and journal agree
        np.testing.assert_array_equal(before[name][:-1], after[name][: len(before[name]) - 1])


def test_points_out_of_order_and_repeated_steps_are_kept(store, run):
    commit, series = run
    tail = Tail(store, History(store.readers))
    tail.append(RUN, *commit([1, 2], [5, 6, 7], [[1.0, 2.0, 3.0], [9.0] * 3]))
    tail.append(RUN, *commit([1], [2, 6, 6], [[4.0, 5.0, 6.0]]))
    raw = tail.query(RUN, series[1].id, None, None, 100).raw
    assert raw is not None
    assert raw.steps.tolist() == [2, 5, 6, 6, 6, 7]
    assert raw.values.tolist() == [4.0, 1.0, 2.0, 5.0, 6.0, 3.0]
    part = tail.query(RUN, series[1].id, 6, 6, 100).raw
    assert part is not None and part.values.tolist() == [2.0, 5.0, 6.0]
    assert tail.newest(RUN, series[1].id, 2).values.tolist() == [5.0, 6.0]
    assert tail.query(RUN, 999, None, None, 100).raw.steps.tolist() == []


def test_what_memory_has_dropped_comes_from_the_journal(store, run):
    commit, series = run
    tail = Tail(store, History(store.readers), series_points_max=1000)
    for begin in range(0, 5000, 250):
        steps = np.arange(begin, begin + 250)
        tail.append(RUN, *commit([1], steps, [steps * 2.0]))
    columns = tail.newest(RUN, series[1].id, 10_000)
    assert len(columns.steps) <= 1000 and columns.steps[-1] == 4999
    raw = tail.query(RUN, series[1].id, None, None, 10_000).raw
    assert raw is not None and raw.steps.tolist() == list(range(5000))
    assert (raw.values == raw.steps * 2.0).all()
    old = tail.query(RUN, series[1].id, 10, 20, 100).raw
    assert old is not None and old.steps.tolist() == list(range(10, 21))


def test_one_run_alone_holds_no_more_than_memory_may(store, run):
    """Many long series of one training that sends faster than the compactor works."""
    commit, series = run
    tail = Tail(store, History(store.readers), points_max=4_000)
    for begin in range(0, 6_000, 250):
        steps = np.arange(begin, begin + 250)
        tail.append(RUN, *commit([1, 2], steps, [steps * 2.0, steps * 3.0]))
    assert tail.crowded
    assert len(tail.newest(RUN, series[1].id, 10_000).steps) <= 2_000
    assert sum(run.points for run in tail._runs.values()) <= 4_000
    for number, times in ((1, 2.0), (2, 3.0)):
        raw = tail.query(RUN, series[number].id, None, None, 10_000).raw
        assert raw is not None and raw.steps.tolist() == list(range(6_000))
        assert (raw.values == raw.steps * times).all()


def test_the_run_nobody_used_goes_first_and_comes_back_whole(store):
    tail = Tail(store, History(store.readers), points_max=2500)
    ids = [f"{i:032x}" for i in range(4)]
    for run_id in ids:
        stream = Stream(run_id=run_id, rank=0, epoch=1)
        record = table([1], np.arange(1000), [np.arange(1000.0)])
        with store.write() as uow:
            info = f.RunInfo(id=run_id, project="p", name="n", started_at=1.0)
            uow.upsert_run(info, None, 1.0)
            series = uow.declare(stream, [f.SeriesDecl(1, "loss")])
            frame = f.encode(f.Batch(lane="scalars", first=0, records=[record]))
            row = uow.append_journal(stream, "scalars", 0, 0, frame, 1.0)
        tail.append(run_id, row, [points_of(record, series)])
    assert [one for one, run in tail._runs.items() if run.points] == ids[2:]
    first = store.series_of(ids[0])[0].id
    raw = tail.query(ids[0], first, None, None, 2000).raw
    assert raw is not None and len(raw.steps) == 1000
