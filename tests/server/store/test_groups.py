"""Many rows in one statement, on every engine, beyond what one statement may hold."""

from __future__ import annotations

from sqlalchemy import select

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store import groups
from nanwatch_server.store import tables as t
from tests.server.wire import RUN

STREAM = ("run_id", "rank", "epoch", "lane", "high")
UPSERT = "ON CONFLICT (run_id, rank, epoch, lane) DO UPDATE SET high = excluded.high"


def test_more_rows_than_a_statement_holds_come_back(store):
    rows = [(RUN, rank, (1 << 53) - 1, "scalars", rank * 3) for rank in range(5_000)]
    assert len(rows) * len(STREAM) > 2 * groups.VALUES_MOST
    with store.write() as uow:
        groups.insert(uow.db, "streams", STREAM, rows)
        raised = [(*row[:4], row[4] + 1) for row in rows]
        groups.insert(uow.db, "streams", STREAM, raised, UPSERT)
        wanted = [(RUN, rank, (1 << 53) - 1) for rank in range(0, 6_000, 2)]
        found = set(groups.select(uow.db, "streams", STREAM, STREAM[:3], wanted))
        assert found == set(raised[::2])
        assert list(groups.select(uow.db, "streams", STREAM, STREAM[:3], [])) == []
        groups.insert(uow.db, "streams", STREAM, [])
    with store.readers.connect() as db:
        assert len(db.execute(select(t.streams)).all()) == 5_000


def test_blobs_are_portioned_by_size_and_lose_nothing(store, monkeypatch):
    monkeypatch.setattr(groups, "BYTES_MOST", 1_000)
    stream = Stream(run_id=RUN, rank=0, epoch=1)
    frames = [bytes([n]) * (700 * (n % 5)) for n in range(100)]
    with store.write() as uow:
        for n, frame in enumerate(frames):
            uow.append_journal(stream, "scalars", n, n, frame, 1.0)
    assert [row.frame for row in store.journal(RUN)] == frames


def test_marks_looked_up_together_are_those_looked_up_alone(store):
    streams = [Stream(run_id=RUN, rank=rank, epoch=rank % 3) for rank in range(20)]
    with store.write() as uow:
        for stream in streams[::2]:
            uow.set_high_water(stream, "scalars", 10 + stream.rank)
        uow.set_high_water(streams[4], "events", 3)
    with store.write() as uow:
        uow.set_high_water(streams[0], "scalars", 99)
        uow.expect(streams)  # what this transaction has set is newer
        together = {s: (uow.high_water(s, "events"), uow.high_water(s, "scalars")) for s in streams}
    assert together[streams[0]] == (-1, 99)
    alone = {s: (store.high_water(s, "events"), store.high_water(s, "scalars")) for s in streams}
    assert together == alone and alone[streams[4]] == (3, 14)


def test_a_thousand_series_are_declared_at_once_and_again(store):
    stream = Stream(run_id=RUN, rank=0, epoch=1)
    decls = [f.SeriesDecl(n, "grad_norm_layer", "q1", f"layers.{n}") for n in range(2_000)]
    with store.write() as uow:
        first = uow.declare(stream, decls)
    with store.write() as uow:
        again = uow.declare(stream, [*decls[:10], f.SeriesDecl(5_000, "loss")])
    assert sorted(first) == list(range(2_000))
    assert {n: again[n] for n in range(10)} == {n: first[n] for n in range(10)}
    assert store.declarations(stream) == first | again
    assert [one.layer for one in store.series_of(RUN)[:2_000]] == [d.layer for d in decls]
