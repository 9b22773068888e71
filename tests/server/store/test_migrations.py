"""Databases that released versions made open with this one, and nothing in them is another."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, text

from nanwatch_server.domain.models import IncidentState
from nanwatch_server.store import tables as t
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.sql import FILE_NAME, SCHEMA_VERSION, SqlStore
from nanwatch_server.store.tail import Tail
from nanwatch_server.store.verify import verify
from tests.server.store.databases.make import ROWS, RUN, STREAM, value_of

STORED = sorted((Path(__file__).parent / "databases").glob("*.sqlite.gz"))


def test_there_is_one_of_every_released_schema():
    assert [path.name[:4] for path in STORED] == ["0001", "0002", "0004", "0009"]


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.name[:4])
def test_everything_comes_out_the_same(stored, tmp_path):
    (tmp_path / FILE_NAME).write_bytes(gzip.decompress(stored.read_bytes()))
    for _ in range(2):  # the second time nothing is left to be done
        store = SqlStore(tmp_path)
        try:
            same(store)
        finally:
            store.close()


def test_levels_of_sixteen_become_levels_of_four(tmp_path):
    spans = [(0, 0), (0, 16), (1, 0), (2, 0)]  # (level, first chunk)
    store = SqlStore(tmp_path)
    with store.write() as uow:
        for level, first in spans:
            row = {"run_id": "r", "series_n": 1, "low": 0, "high": 9, "width": 4, "data": b""}
            uow.db.execute(t.spans.insert().values(level=level, first=first, **row))
        uow.db.execute(text("UPDATE alembic_version SET version_num = '0008'"))
    store.close()
    store = SqlStore(tmp_path)
    with store.readers.connect() as db:
        found = db.execute(select(t.spans.c.level, t.spans.c.first).order_by(t.spans.c.n)).all()
    assert [tuple(row) for row in found] == [(2 * level, first) for level, first in spans]
    store.close()


def same(store):
    with store.readers.connect() as db:
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalar() == (
            SCHEMA_VERSION
        )
    run = store.run(RUN)
    assert (run.project, run.name, run.config) == ("old", "first", {"lr": "1"})
    assert store.high_water(STREAM, "scalars") == 19
    (mark,) = store.marks(RUN)
    assert (mark.what, mark.step, mark.text, mark.data) == ("task", 3, "t", {"a": "b"})
    (incident,) = store.incidents()
    assert incident.state is IncidentState.FIRING
    assert incident.diagnosis.syndrome == "loss-spike"
    assert store.audit_break() is None
    assert len(store.audit_rows()) == 1
    history = History(store.readers)
    tail = Tail(store, history)
    loss, lr = store.series_of(RUN)
    for finish in (False, True):
        if finish:
            compact(store, history, tail, RUN, 1 << 60)
        raw = tail.query(RUN, loss.id, None, None, 10_000).raw
        assert raw.steps.tolist() == list(range(20 * ROWS))
        expected = np.array([value_of(step) for step in range(20 * ROWS)])
        assert (raw.values.view(np.uint64) == expected.view(np.uint64)).all()
        assert (raw.times == 1000.0 + raw.steps * 0.5).all()
        lowest = tail.query(RUN, lr.id, 990, None, 10_000).raw.values
        assert lowest.tolist() == [-float(step) for step in range(990, 1000)]
    assert verify(store.readers).problems == []
