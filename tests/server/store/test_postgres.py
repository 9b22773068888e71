"""What only PostgreSQL can do to us: settings that lose data, and a server that is killed."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from nanwatch.contract.frames import Batch, RunInfo, SeriesDecl, encode
from nanwatch_server.domain.models import Stream
from nanwatch_server.ingest.intake import Intake, Job
from nanwatch_server.store.base import StoreError, StoreUnavailableError
from nanwatch_server.store.ordered import OrderedRun, moment
from nanwatch_server.store.postgres import shown
from nanwatch_server.store.sql import SqlStore, reading_database
from tests.server.store.test_chunks import Run
from tests.server.wire import RUN, table

STREAM = Stream(run_id=RUN, rank=0, epoch=1)


def test_a_database_that_confirms_too_early_is_refused(cluster, tmp_path):
    name = cluster.database()
    cluster.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(StoreError, match="synchronous_commit=off"):
        SqlStore(tmp_path, cluster.address(name))
    cluster.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
    SqlStore(tmp_path, cluster.address(name)).close()


def test_it_can_be_read_beside_its_server(cluster, tmp_path):
    """What `nanwatch export` and back-tests do."""
    address = cluster.address(cluster.database())
    store = SqlStore(tmp_path, address)
    with store.write() as uow:
        info = RunInfo(id=RUN, project="p", name="n", started_at=1.0)
        uow.upsert_run(info, None, 1.0)
        uow.declare(STREAM, [SeriesDecl(1, "loss")])
        batch = Batch(lane="scalars", first=0, records=[table([1], [1, 2], [[0.5, float("nan")]])])
        uow.append_journal(STREAM, "scalars", 0, 0, encode(batch), 1.0)
    with reading_database(tmp_path, address) as engine, moment(engine) as reads:
        ((points,),) = OrderedRun(reads, RUN).rounds()
        assert points.steps.tolist() == [1, 2] and points.values[0, 0] == 0.5
    store.close()
    with (
        pytest.raises(StoreError, match="cannot read"),
        reading_database(tmp_path, f"postgresql://me:secret@/none?host={tmp_path}") as engine,
        moment(engine),
    ):
        pass


def test_what_is_not_there_is_said_without_the_password(tmp_path):
    address = f"postgresql://me:secret@/none?host={tmp_path}"
    with pytest.raises(StoreUnavailableError) as raised:
        SqlStore(tmp_path / "data", address)
    assert "secret" not in str(raised.value) and "me" in shown(address)
    with pytest.raises(StoreError, match="expected a database like"):
        SqlStore(tmp_path / "data", "mysql://me:secret@host/none")


def test_nothing_acked_is_lost_when_the_postmaster_is_killed(cluster, tmp_path):
    store = SqlStore(tmp_path, cluster.address(cluster.database()))
    intake = Intake(store)
    intake.start()
    acked: list[int] = []
    stop = threading.Event()

    def batch(number: int) -> Job:
        def write(uow):
            if uow.high_water(STREAM, "scalars") < number:
                uow.append_journal(STREAM, "scalars", number, number, b"%d" % number, 1.0)
                uow.set_high_water(STREAM, "scalars", number)

        return Job(write, lambda _: acked.append(number), failed.append)

    failed: list[Exception] = []

    def feed():
        number = 0
        while not stop.is_set():
            intake.submit(batch(number))
            number += 1
            time.sleep(0.002)

    def more():
        before = len(acked)
        _until(lambda: len(acked) > before + 50)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        for _ in range(2):
            more()
            cluster.kill()
            _until(lambda: intake.stalled)
            with pytest.raises(StoreUnavailableError):
                store.journal(RUN)
            cluster.start()
            _until(lambda: not intake.stalled)
        more()
    finally:
        stop.set()
        feeder.join()
        intake.close()
    rows = []
    while page := store.journal(RUN, after=rows[-1].id if rows else 0):
        rows += page
    store.close()
    assert not failed
    assert acked == list(range(len(acked)))
    assert [row.first for row in rows] == list(range(len(rows))) and len(rows) >= len(acked)
    assert [row.frame for row in rows] == [b"%d" % row.first for row in rows]


def test_a_chart_reads_one_partition_of_each_table(cluster, tmp_path):
    """Sixteen parts are not looked through for the sake of one run (decision 0023)."""
    store = SqlStore(tmp_path, cluster.address(cluster.database()))
    run = Run(store)
    steps = np.arange(20_000)
    run.commit([1, 2], steps, [np.sin(steps), np.cos(steps)])
    run.compact()
    run.reopen()
    asked: list[tuple[str, Any]] = []

    @event.listens_for(store.readers, "before_cursor_execute")
    def listen(_db, _cursor, statement, parameters, _context, _many) -> None:
        asked.append((statement, parameters))

    ids = [one.id for one in store.series_of(RUN)][:2]
    assert run.tail.query_many(RUN, ids, None, None, 100)[ids[0]].buckets is not None
    assert run.tail.query_many(RUN, ids, 5_000, 5_050, 100)[ids[0]].raw is not None
    assert len(run.tail.newest(RUN, ids[0], 100).steps) == 100
    event.remove(store.readers, "before_cursor_execute", listen)
    looked: set[str] = set()
    with store.readers.connect() as db:
        for statement, parameters in asked:
            plan = db.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
            for table in ("chunks", "spans", "axes", "journal"):
                parts = set(re.findall(rf"{table}_p[0-9]+", "\n".join(plan)))
                if f"FROM {table}" in statement:
                    looked.add(table)
                    assert len(parts) == 1, (table, sorted(parts), statement)
    store.close()
    assert looked == {"chunks", "spans", "axes", "journal"}


def _until(done) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)
