"""Deleted runs, dropped points, expired logins: what must go goes, what must stay stays."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from sqlalchemy import select, update

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store import removal, retention
from nanwatch_server.store import tables as t
from nanwatch_server.store.backup import vacuum
from nanwatch_server.store.base import RunRemovedError
from nanwatch_server.store.history import History
from nanwatch_server.store.replay import points_of
from nanwatch_server.store.tail import Tail
from nanwatch_server.store.verify import verify
from tests.server.store.test_chunks import RUN, STREAM, Run, bits
from tests.server.wire import table

BY = {"actor": "test", "role": "admin", "via": "token"}
DAY = 86_400.0


class Life(Run):
    """A run whose store can be opened again."""

    def __init__(self, where) -> None:
        super().__init__(where.open())
        self.where = where

    def reopen(self) -> None:
        self.store.close()
        self.store = self.where.open()
        self.history = History(self.store.readers)
        self.tail = Tail(self.store, self.history)


@pytest.fixture
def life(place):
    return Life(place)


def fill(life, n=20_000, at=0):
    values = np.sin(np.arange(at, at + n) / 300.0)
    if n > 777:
        values[777] = np.nan
    life.commit([1, 2], np.arange(at, at + n), [values, -values])


def test_a_deleted_run_leaves_nothing_but_its_audit(life):
    for at in range(0, 100_000, 5_000):
        fill(life, 5_000, at)
    life.compact()
    fill(life, 10, 100_000)
    other = Stream(run_id="cd" * 16, rank=0, epoch=1)
    with life.store.write() as uow:
        uow.upsert_run(f.RunInfo(id=other.run_id, project="p", name="o", started_at=1.0), None, 1.0)
        uow.declare(other, [f.SeriesDecl(1, "loss")])
    removal.remove_run(life.store, RUN, BY, 5.0)
    assert life.store.run(RUN) is None
    assert removal.unfinished(life.store) == [RUN]
    assert removal.sweep(life.store, life.history, RUN) > 50
    assert removal.size_of(life.store, RUN) == {}
    assert removal.unfinished(life.store) == []
    assert [one.kind for one in life.store.series_of(other.run_id)] == ["loss"]
    row = life.store.audit_rows(run_id=RUN)[0]
    assert (row["action"], row["detail"]["name"]) == ("run.delete", "n")
    assert life.store.audit_break() is None
    assert verify(life.store.readers).problems == []


def test_nothing_is_written_of_a_deleted_run_even_after_a_restart(life):
    fill(life, 100)
    removal.remove_run(life.store, RUN, BY, 5.0)
    for _ in range(2):
        with pytest.raises(RunRemovedError), life.store.write() as uow:
            uow.append_journal(STREAM, "scalars", 1, 1, b"", 1.0)
        with pytest.raises(RunRemovedError), life.store.write() as uow:
            uow.upsert_run(f.RunInfo(id=RUN, project="p", name="n", started_at=1.0), None, 1.0)
        life.reopen()
    assert removal.unfinished(life.store) == [RUN]


def test_pages_of_a_deleted_run_are_used_again(life):
    chance = np.random.default_rng(3)

    def run_of(begin):
        for at in range(begin, begin + 200_000, 4_000):
            life.commit([1, 2], np.arange(at, at + 4_000), chance.normal(size=(2, 4_000)))
        life.compact()

    run_of(0)
    if life.where.engine != "sqlite":
        pytest.skip("PostgreSQL's autovacuum does it")
    path = life.where.directory / "nanwatch.sqlite"
    life.reopen()
    before = path.stat().st_size
    removal.remove_run(life.store, RUN, BY, 5.0)
    removal.sweep(life.store, life.history, RUN)
    with life.store.readers.connect() as db:
        free, pages = (
            db.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("freelist_count", "page_count")
        )
    assert free > 0.8 * pages
    life.store.close()
    old, new = vacuum(life.where.directory)
    assert old >= before * 0.9
    assert new < before / 4


def drop(life, before):
    return retention.drop_before(life.store, life.tail, threading.Lock(), RUN, before)


@pytest.mark.parametrize("reopened", [False, True])
def test_dropped_points_answer_in_buckets(life, reopened):
    fill(life, 20_000)
    life.compact()
    whole = life.tail.query(RUN, life.series[1].id, None, None, 100).buckets
    assert drop(life, 1e12) == 40_000
    assert life.count(t.axes) == 0
    if reopened:
        life.reopen()
    found = life.tail.query(RUN, life.series[1].id, None, None, 100)
    assert found.dropped and found.raw is None
    for name, column in whole.items():
        assert bits(found.buckets[name]) == bits(column), name
    few = life.tail.query(RUN, life.series[1].id, 700, 800, 5_000)
    assert few.dropped and few.buckets is not None
    assert few.buckets["nan"].sum() == 1
    assert few.buckets["first_step"].min() <= 700 and few.buckets["last_step"].max() >= 800
    assert verify(life.store.readers).problems == []


def test_new_points_behind_dropped_ones(life):
    fill(life, 6_000)
    life.compact()
    drop(life, 1e12)
    fill(life, 6_000, 6_000)
    life.compact()
    fill(life, 50, 12_000)
    found = life.tail.query(RUN, life.series[1].id, None, None, 50)
    assert found.dropped
    assert found.buckets["count"].sum() == 12_050
    fresh = life.tail.query(RUN, life.series[1].id, 6_000, None, 100_000)
    assert not fresh.dropped and len(fresh.raw.steps) == 6_050
    newest = life.tail.newest(RUN, life.series[1].id, 10_000)
    assert newest.steps.tolist() == list(range(6_000, 12_050))
    assert verify(life.store.readers).problems == []


def test_a_resume_over_dropped_points(life):
    """Steps that go back over a range of which only summaries are left."""
    fill(life, 8_000)
    life.compact()
    drop(life, 1e12)
    fill(life, 5_000, 4_000)
    life.compact()
    found = life.tail.query(RUN, life.series[1].id, None, None, 64)
    assert found.dropped
    assert found.buckets["count"].sum() == 13_000
    assert (np.diff(found.buckets["first_step"]) >= 0).all()


def test_only_what_is_old_enough_is_dropped(life):
    old = np.full(5_000, 1_000.0)
    commit_at(life, 0, old)
    life.compact()
    commit_at(life, 5_000, old + 50 * DAY)
    life.compact()
    now = 1_000.0 + 60 * DAY
    lock = threading.Lock()

    def apply(days):
        return retention.apply(life.store, life.tail, lock, days, now)

    assert apply(None) == 0
    assert apply(100.0) == 0
    retention.keep(life.store, "p", None)
    assert apply(30.0) == 0  # the project's own rule
    retention.keep(life.store, "p", 30.0)
    with life.store.write() as uow:
        uow.pin(RUN, 1.0)
    assert apply(None) == 0
    with life.store.write() as uow:
        uow.pin(RUN, None)
    # The second chunk ends later than thirty days ago.
    assert apply(None) == 4_096
    assert not life.tail.query(RUN, life.series[1].id, 4_096, None, 10_000).dropped
    assert retention.kept(life.store, 7.0) == {"p": (30.0, True)}


def commit_at(life, at, times):
    steps = np.arange(at, at + len(times))
    record, seq = table([1], steps, [steps * 0.5], times), next(life.seq)
    frame = f.encode(f.Batch(lane="scalars", first=seq, records=[record]))
    with life.store.write() as uow:
        row = uow.append_journal(STREAM, "scalars", seq, seq, frame, 1.0)
    life.tail.append(RUN, row, [points_of(record, life.series)])


def test_expired_logins_are_forgotten(life):
    with life.store.write() as uow:
        for name, until in (("a", 10.0), ("b", 99.0)):
            uow.put_session({"sha256": name, "expires_at": until})
            uow.put_login_code({"sha256": name, "expires_at": until})
        assert uow.purge_logins(50.0) == 2
    assert life.store.session("a") is None
    assert life.store.session("b") is not None
    assert life.count(t.login_codes) == 1


def test_verify_tells_what_was_changed(life):
    fill(life, 5_000)
    life.compact()
    fill(life, 10, 5_000)
    assert verify(life.store.readers).problems == []
    with life.store.write() as uow:
        data = uow.db.execute(select(t.chunks.c.data).where(t.chunks.c.n == 1)).scalar_one()
        broken = update(t.chunks).where(t.chunks.c.n == 1).values(data=data[:40])
        uow.db.execute(broken)
        uow.db.execute(update(t.journal).values(frame=b"\x00"))
        uow.audit(at=1.0, actor="a", role="admin", via="token", action="x")
        uow.db.execute(update(t.audit).values(action="y"))
    problems = "\n".join(verify(life.store.readers).problems)
    assert "chunk 1 " in problems
    assert "journal row" in problems
    assert "audit" in problems


def test_declaring_thousands_is_not_slower_each_time(life):
    """20,000 series in 40 frames: each looks up its own only."""
    taken = []
    for part in range(40):
        decls = [
            f.SeriesDecl(part * 500 + i, "grad_norm_layer", "", f"l{part * 500 + i}")
            for i in range(500)
        ]
        begin = time.perf_counter()
        with life.store.write() as uow:
            assert len(uow.declare(STREAM, decls)) == 500
        taken.append(time.perf_counter() - begin)
    assert len(life.store.series_of(RUN)) == 20_003
    page, more = life.store.series_page(RUN, query="L1999", limit=5)
    assert [one.layer for one in page] == ["l1999", "l19990", "l19991", "l19992", "l19993"]
    rest, end = life.store.series_page(RUN, query="l1999", limit=50, after=more)
    assert [one.layer for one in rest][-1] == "l19999" and end is None
