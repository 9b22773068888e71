"""Points in chunks answer as they did in the journal: same values, same buckets, whatever came."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store import tables as t
from nanwatch_server.store.buckets import COLUMNS, bucketed, width_for
from nanwatch_server.store.chunks import CHUNK_POINTS, refs_of
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.replay import points_of
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from nanwatch_server.store.verify import verify
from tests.server.wire import RUN, table

STREAM = Stream(run_id=RUN, rank=0, epoch=1)
EVERYTHING = 1 << 60


class Run:
    """A store with one run of three series, its tail, and everything that was ever committed."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.history = History(self.store.readers)
        self.tail = Tail(self.store, self.history)
        self.seq = itertools.count()
        self.all: dict[int, list[tuple[int, float]]] = {1: [], 2: [], 3: []}
        decls = [f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "lr"), f.SeriesDecl(3, "q_max")]
        with self.store.write() as uow:
            uow.upsert_run(f.RunInfo(id=RUN, project="p", name="n", started_at=1.0), None, 1.0)
            self.series = uow.declare(STREAM, decls)

    def commit(self, ids, steps, values) -> None:
        record, seq = table(ids, steps, values), next(self.seq)
        frame = f.encode(f.Batch(lane="scalars", first=seq, records=[record]))
        with self.store.write() as uow:
            row = uow.append_journal(STREAM, "scalars", seq, seq, frame, 1.0)
        self.tail.append(RUN, row, [points_of(record, self.series)])
        for one, column in zip(ids, values, strict=True):
            self.all[one] += zip(
                np.asarray(steps).tolist(), np.asarray(column).tolist(), strict=True
            )

    def compact(self, upto: int = EVERYTHING) -> int:
        moved, more = 0, True
        while more:
            points, more = compact(self.store, self.history, self.tail, RUN, upto)
            moved += points
        return moved

    def reopen(self) -> None:
        """As after a restart: nothing is in memory."""
        self.history = History(self.store.readers)
        self.tail = Tail(self.store, self.history)

    def count(self, which) -> int:
        with self.store.readers.connect() as db:
            return db.execute(select(func.count()).select_from(which)).scalar_one()

    def check(self, wire_id: int, x0=None, x1=None, buckets=50) -> str:
        """The answer against the definition; says how it was given."""
        points = sorted(self.all[wire_id], key=lambda p: p[0])
        points = [p for p in points if (x0 is None or p[0] >= x0) and (x1 is None or p[0] <= x1)]
        steps = np.array([p[0] for p in points], np.int64)
        values = np.array([p[1] for p in points], np.float64)
        found = self.tail.query(RUN, self.series[wire_id].id, x0, x1, buckets)
        if len(points) <= buckets:
            assert found.raw is not None
            assert found.raw.steps.tolist() == steps.tolist()
            assert bits(found.raw.values) == bits(values)
            return "raw"
        assert found.buckets is not None
        low, high = (steps[0] if x0 is None else x0), (steps[-1] if x1 is None else x1)
        width = width_for(int(low), int(high), buckets)
        expected = bucketed(steps, steps * 0.0, values, width)
        for name in COLUMNS:
            if name == "last_time":
                continue
            if name == "sum":
                np.testing.assert_allclose(found.buckets[name], expected[name], rtol=1e-9)
            else:
                assert bits(found.buckets[name]) == bits(expected[name]), name
        return "buckets"


def bits(values) -> list[int]:
    return np.ascontiguousarray(values, np.float64).view(np.uint64).tolist()


@pytest.fixture
def run(store):
    return Run(store)


def test_a_long_series_is_the_same_before_and_after(run):
    n = 150_000
    values = np.sin(np.arange(n) / 500.0)
    values[54_321], values[77_777], values[3] = 1e6, math.nan, -math.inf
    floats = values.astype(np.float32).astype(np.float64)
    for begin in range(0, n, 5000):
        cut = slice(begin, begin + 5000)
        run.commit([1, 2], np.arange(n)[cut], [values[cut], floats[cut]])
        if begin % 20_000 == 0:
            run.compact()
    assert run.compact() > 0
    assert run.count(t.journal) == 0
    assert run.count(t.spans) == 2 * (n // (16 * CHUNK_POINTS))
    assert run.count(t.axes) == run.count(t.chunks) / 2, "two series share each axis"
    for _ in range(2):
        for one in (1, 2):
            for x0, x1 in [(None, None), (1000, 140_003), (70_000, 71_111), (54_321, 54_321)]:
                for buckets in (10, 333, 2000):
                    run.check(one, x0, x1, buckets)
        run.reopen()


def test_a_million_points_have_a_second_level(run):
    n = 1_100_000
    rng = np.random.default_rng(0)
    values = rng.normal(size=n).astype(np.float32).astype(np.float64)
    values[1_000_001] = math.nan
    for begin in range(0, n, 100_000):
        cut = slice(begin, begin + 100_000)
        for start in range(begin, min(begin + 100_000, n), 4000):
            part = slice(start, min(start + 4000, cut.stop))
            run.commit([1], np.arange(n)[part], [values[part]])
        run.compact()
        if begin == 800_000:  # as of a database from before 0009, which had no such level
            with run.store.write() as uow:
                uow.db.execute(delete(t.spans).where(t.spans.c.level == 1))
            run.reopen()
    with run.store.readers.connect() as db:
        levels = db.execute(select(t.spans.c.level, func.count()).group_by(t.spans.c.level)).all()
    assert dict(map(tuple, levels)) == {0: 16, 1: 1, 2: 1}
    for buckets in (300, 900, 2000, 10_000):
        assert run.check(1, None, None, buckets) == "buckets"
    assert run.check(1, 5, 1_099_990, 2000) == "buckets"
    assert verify(run.store.readers).problems == []


values = st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, -2.5, 5e-324, 1e300])
batch = st.tuples(
    st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    st.sampled_from([(1,), (2,), (1, 2), (3, 1)]),
    st.booleans(),
)


def test_any_order_of_steps_and_any_moment(new_place, engine):
    """Steps go back, repeat and interleave; some of it is compacted, some not."""

    @settings(deadline=None, max_examples=60 if engine == "sqlite" else 12)
    @given(
        batches=st.lists(batch, min_size=1, max_size=12),
        data=st.data(),
        ranges=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=4),
    )
    def check(batches, data, ranges):
        place = new_place()
        run = Run(place.open())
        try:
            for steps, ids, then_compact in batches:
                columns = [[data.draw(values) for _ in steps] for _ in ids]
                run.commit(list(ids), np.array(steps), [np.array(c) for c in columns])
                if then_compact:
                    run.compact()
            for one in (1, 2, 3):
                run.check(one)
                for a, b in ranges:
                    run.check(one, min(a, b), max(a, b), 10)
                newest = run.tail.newest(RUN, run.series[one].id, 25)
                expected = run.all[one][-25:]
                assert newest.steps.tolist() == [p[0] for p in expected]
                assert bits(newest.values) == bits([p[1] for p in expected])
        finally:
            place.done()

    check()


def test_a_resumed_run_that_goes_back_across_spans(run):
    n = 70_000
    for begin in [*range(0, n, 3500), *range(50_000, 60_000, 2500)]:
        run.commit([1], np.arange(begin, begin + 2500), [np.full(2500, float(begin))])
        run.compact()
    for begin in range(61_000, 66_000, 2500):  # not compacted
        run.commit([1], np.arange(begin, begin + 2500), [np.full(2500, 7.0)])
    for x0, x1 in [(None, None), (49_000, 61_500), (0, 40_000)]:
        for buckets in (10, 100, 3000):
            run.check(1, x0, x1, buckets)


def test_newest_points_that_went_back_under_a_span(run):
    n = 16 * CHUNK_POINTS
    for begin in range(0, n, 4096):
        run.commit([1], np.arange(begin, begin + 4096), [np.ones(4096)])
    run.compact()
    assert run.count(t.spans) == 1
    run.commit([1], np.arange(30_000, 30_010), [np.full(10, 9.0)])
    assert run.check(1, None, None, 100) == "buckets"


def test_rows_that_the_rules_have_not_seen_stay(run):
    for begin in range(0, 5000, 500):
        run.commit([1], np.arange(begin, begin + 500), [np.ones(500)])
    rows = [row.id for row in run.store.journal(RUN)]
    assert run.compact(rows[3]) == 2000
    assert [row.id for row in run.store.journal(RUN)] == rows[4:]
    assert run.check(1, None, None, 10_000) == "raw"
    run.reopen()
    assert run.check(1, None, None, 10_000) == "raw"


def test_steps_up_to_the_largest(run):
    steps = np.array([0, 1, 2**31, 2**53 - 2, 2**53 - 1])
    run.commit([1], steps, [np.arange(5.0)])
    run.compact()
    assert run.check(1) == "raw"
    run.commit([1], np.arange(100), [np.arange(100.0)])
    run.compact()
    assert run.check(1, None, None, 10) == "buckets"


def test_what_is_remembered_of_a_chart_is_what_it_would_be(store):
    """Reloads, new points behind, points that go back, a compaction: as if nothing were kept."""
    run = Run(store)

    def check() -> None:
        for x0, x1, buckets in ((None, None, 300), (1_000, 30_000, 300), (None, None, 17)):
            known = [run.tail.query(RUN, run.series[1].id, x0, x1, buckets) for _ in range(3)]
            fresh = Tail(store, History(store.readers))
            afresh = fresh.query(RUN, run.series[1].id, x0, x1, buckets).buckets
            for one in known:
                assert one.buckets is not None and afresh is not None
                for name in COLUMNS:
                    np.testing.assert_array_equal(one.buckets[name], afresh[name], err_msg=name)

    rng = np.random.default_rng(3)
    for begin in range(0, 40_000, 8_000):
        values = rng.normal(size=8_000)
        values[begin % 7 :: 1_999] = np.nan
        run.commit([1], np.arange(begin, begin + 8_000), [values])
        check()
        if begin != 16_000:
            run.compact()
            check()
    run.commit([1], np.arange(35_000, 36_000), [np.full(1_000, 9.0)])  # steps that went back
    check()
    run.compact()
    check()


def test_where_chunks_lie_is_answered_by_an_index_alone(tmp_path):
    store, said = SqlStore(tmp_path), []
    with store.readers.connect() as db:
        raw = db.connection.dbapi_connection
        raw.set_trace_callback(said.append)  # type: ignore[union-attr]
        refs_of(db, [1, 2], RUN)
        raw.set_trace_callback(None)  # type: ignore[union-attr]
        (asked,) = [one for one in said if "FROM chunks" in one]
        plan = db.execute(text(f"EXPLAIN QUERY PLAN {asked}")).all()
    store.close()
    assert [row for row in plan if "COVERING INDEX chunks_glance" in row[3]]
    assert not [row for row in plan if "TEMP B-TREE" in row[3]], "in order as it is"
