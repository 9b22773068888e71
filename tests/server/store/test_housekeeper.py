"""The housekeeper comes back for what the rules had not seen when it passed."""

from __future__ import annotations

import time

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store.history import History
from nanwatch_server.store.housekeeper import QUIET_S, Housekeeper
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from tests.server.wire import RUN, table

STREAM = Stream(run_id=RUN, rank=0, epoch=1)
PATIENCE_S = 60.0


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_rows_beyond_the_saved_rules_are_compacted_later(tmp_path) -> None:
    store = SqlStore(tmp_path)
    with store.write() as uow:
        uow.upsert_run(f.RunInfo(id=RUN, project="p", name="n", started_at=1.0), None, 1.0)
        uow.declare(STREAM, [f.SeriesDecl(1, "loss")])
    rows = []
    for seq in range(4):
        record = table([1], range(seq * 10, seq * 10 + 10), [np.arange(10.0)])
        frame = f.encode(f.Batch(lane="scalars", first=seq, records=[record]))
        with store.write() as uow:
            rows.append(uow.append_journal(STREAM, "scalars", seq, seq, frame, 1.0))
    history = History(store.readers)
    now, safe = [0.0], [rows[1]]
    keeper = Housekeeper(
        store, history, Tail(store, history), lambda run_id: safe[0], clock=lambda: now[0]
    )
    keeper.start()  # finds the journal of an earlier server
    try:
        now[0] = QUIET_S
        until(lambda: history.upto(RUN) == rows[1])
        safe[0] = rows[3]  # the rules have been saved again; no point has come meanwhile
        until(lambda: history.upto(RUN) == rows[3])
        assert store.journal_end(RUN) == 0
    finally:
        keeper.close()
        store.close()
