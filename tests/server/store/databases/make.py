"""Makes a small database by the code of a released schema, for `test_migrations`.

    PYTHONPATH=OLD/server:OLD/client_sdk python tests/server/store/databases/make.py DIRECTORY

with OLD a checkout of that release; `nanwatch.sqlite` is then packed by gzip.
"""

import math
import sys
from pathlib import Path

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import (
    Diagnosis,
    Incident,
    IncidentState,
    RunMark,
    Severity,
    Stream,
)
from nanwatch_server.store.sql import SqlStore

RUN = "ab" * 16
STREAM = Stream(run_id=RUN, rank=0, epoch=1)
ROWS = 50
VALUES = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308, 0.1, 2.0**53]


def value_of(step):
    return VALUES[step % len(VALUES)] if step % 7 == 0 else step * 0.25


def batch(seq):
    steps = np.arange(seq * ROWS, (seq + 1) * ROWS, dtype="<i8")
    values = np.array([[value_of(int(step)) for step in steps], steps * -1.0], "<f8")
    times = (1000.0 + steps * 0.5).astype("<f8")
    record = f.Table(
        ids=[1, 2], steps=steps.tobytes(), times=times.tobytes(), values=values.tobytes()
    )
    return f.encode(f.Batch(lane="scalars", first=seq, records=[record]))


def main(directory):
    store = SqlStore(directory)
    with store.write() as uow:
        info = f.RunInfo(id=RUN, project="old", name="first", started_at=5.0, config={"lr": "1"})
        uow.upsert_run(info, None, 6.0)
        uow.open_epoch(STREAM, started_at=5.0, parent_epoch=-1, now=6.0)
        uow.declare(STREAM, [f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "lr", "q1")])
        for seq in range(20):
            uow.append_journal(STREAM, "scalars", seq, seq, batch(seq), 7.0)
        uow.set_high_water(STREAM, "scalars", 19)
        uow.add_mark(RunMark(run_id=RUN, what="task", step=3, at=8.0, text="t", data={"a": "b"}))
        cause = Diagnosis(syndrome="loss-spike", title="t", what="w", why="y", confidence=0.5)
        uow.put_incident(
            Incident(
                id="i1",
                run_id=RUN,
                state=IncidentState.FIRING,
                severity=Severity.CRITICAL,
                diagnosis=cause,
                onset_step=3,
                fired_step=4,
                last_step=5,
                opened_at=9.0,
                updated_at=9.0,
                count=2,
            )
        )
        uow.audit(at=1.0, actor="a", role="admin", via="token", action="x", detail={"n": 1})
    try:
        from nanwatch_server.store.compactor import compact
        from nanwatch_server.store.history import History
        from nanwatch_server.store.tail import Tail
    except ImportError:  # before schema 0003
        pass
    else:
        history = History(store.readers)
        compact(store, history, Tail(store, history), RUN, 15)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
