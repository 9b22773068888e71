"""A program that fills a journal and compacts it without pause, until it is killed.

Prints the number of each batch once it is committed. `python -m` from the repository's root, with
the data directory and the database (or "") as its arguments.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail
from tests.server.wire import RUN, table

STREAM = Stream(run_id=RUN, rank=0, epoch=1)
ROWS = 700
"""Steps of one batch."""


def values_of(number: int) -> list[np.ndarray]:
    """What batch `number` holds, of two series."""
    steps = np.arange(number * ROWS, (number + 1) * ROWS)
    odd = np.where(steps % 97 == 0, np.nan, steps / 7.0)
    return [odd, steps.astype(np.float32).astype(np.float64)]


def main() -> None:
    """Go on from what is stored."""
    store = SqlStore(Path(sys.argv[1]), sys.argv[2])
    history = History(store.readers)
    tail = Tail(store, history)
    with store.write() as uow:
        uow.upsert_run(f.RunInfo(id=RUN, project="p", name="n", started_at=1.0), None, 1.0)
        uow.declare(STREAM, [f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "lr")])

    def keep_compacting() -> None:
        while True:
            compact(store, history, tail, RUN, 1 << 60)

    threading.Thread(target=keep_compacting, daemon=True).start()
    number = store.high_water(STREAM, "scalars") + 1
    while True:
        steps = np.arange(number * ROWS, (number + 1) * ROWS)
        batch = f.Batch(
            lane="scalars", first=number, records=[table([1, 2], steps, values_of(number))]
        )
        with store.write() as uow:
            if uow.high_water(STREAM, "scalars") < number:
                uow.append_journal(STREAM, "scalars", number, number, f.encode(batch), 1.0)
                uow.set_high_water(STREAM, "scalars", number)
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main()
