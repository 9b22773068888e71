"""`nanwatch db move`: everything arrives, bit for bit, there and back, also after a cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sqlalchemy import select

from nanwatch_server.store import move as moving
from nanwatch_server.store import tables as t
from nanwatch_server.store.base import StoreBusyError, StoreError
from nanwatch_server.store.move import move_database
from nanwatch_server.store.sql import SqlStore
from tests.server.store.test_chunks import EVERYTHING, Run
from tests.server.wire import RUN


@pytest.fixture
def filled(tmp_path):
    """A directory with chunks, spans and a journal; every value that is hard to keep."""
    store = SqlStore(tmp_path / "src")
    run = Run(store)
    values = np.array([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308] * 2000)
    for begin in range(0, 12_000, 3000):
        run.commit([1, 2], np.arange(begin, begin + 3000), [values[:3000], values[3000:6000]])
    run.compact(EVERYTHING)
    run.commit([1, 3], np.array([1 << 52, 5]), [values[:2], values[2:4]])
    with store.write() as uow:
        uow.audit(at=0.1, actor="a", role="r", via="v", action="x", detail={"n": math.nan})
    store.close()
    return tmp_path / "src"


def everything(directory, database=""):
    store = SqlStore(directory, database)
    try:
        with store.readers.connect() as db:
            return {table.name: sorted(map(tuple, db.execute(select(table)))) for table in TABLES}
    finally:
        store.close()


TABLES = [table for table in t.metadata.tables.values() if "n" in table.c]


def test_there_and_back(filled, cluster, tmp_path):
    address = cluster.address(cluster.database())
    before = everything(filled)
    seen = []
    moved = move_database(str(filled), address, lambda *now: seen.append(now))
    assert moved.runs == 1 and moved.rows["chunks"] == len(before["chunks"]) > 0
    assert seen[-1][0] == "comparing" and seen[-1][1] == seen[-1][2]
    assert everything(tmp_path / "beside", address) == before
    move_database(address, str(tmp_path / "back"))
    assert everything(tmp_path / "back") == before
    store = SqlStore(tmp_path / "beside", address)
    run = Run(store)
    try:  # and a run goes on, with a row number beyond all that were given
        assert store.audit_break() is None
        newest = store.journal_end(RUN)
        run.seq = iter(range(100, 200))
        run.commit([1], np.array([6]), [np.array([1.0])])
        assert store.journal_end(RUN) > newest
    finally:
        store.close()


def test_a_move_that_was_cut_short_is_finished_and_no_server_starts_before(
    filled, cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(moving, "BATCH_ROWS", 2)
    address = cluster.address(cluster.database())

    def cut(what, done, whole):
        if done > whole // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_database(str(filled), address, cut)
    with pytest.raises(StoreError, match="not finished"):
        SqlStore(tmp_path / "beside", address)
    move_database(str(filled), address)
    assert everything(tmp_path / "beside", address) == everything(filled)
    with pytest.raises(StoreError, match="empty database"):
        move_database(str(filled), address)


def test_what_is_in_use_is_refused(filled, cluster, tmp_path):
    address = cluster.address(cluster.database())
    store = SqlStore(filled)
    with pytest.raises(StoreBusyError):
        move_database(str(filled), address)
    store.close()
    store = SqlStore(tmp_path / "beside", address)
    with pytest.raises(StoreBusyError):
        move_database(str(filled), address)
    store.close()
    with pytest.raises(StoreError, match="expected a database to move"):
        move_database(str(tmp_path / "nothing"), address)
