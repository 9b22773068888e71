"""kill -9 at any moment of commit and compaction: nothing that was acked is lost or doubled."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.tail import Tail
from tests.server.store.compacting import ROWS, STREAM, values_of
from tests.server.wire import RUN

ROOT = Path(__file__).parents[3]
LIVES = {"sqlite": 12, "postgresql": 4}


def live(directory: Path, database: str, seconds: float) -> int:
    """One life of the program; the last batch it said was committed, -1 for none."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.store.compacting", str(directory), database],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    rest, _ = process.communicate()
    said = [int(line) for line in (first + rest).splitlines() if line.strip().isdigit()]
    assert said, "it died by itself"
    return said[-1]


def test_nothing_lost_nothing_doubled(place):
    chance = random.Random(7)
    acked = -1
    for _ in range(LIVES[place.engine]):
        acked = max(acked, live(place.directory, place.database, chance.uniform(0.05, 0.6)))
    store = place.open()
    try:
        history = History(store.readers)
        tail = Tail(store, history)
        for finish in (False, True):
            while finish and compact(store, history, tail, RUN, 1 << 60)[0]:
                pass
            for which, one in enumerate(store.series_of(RUN)):
                raw = tail.query(RUN, one.id, None, None, 1 << 40).raw
                assert raw is not None
                batches = len(raw.steps) // ROWS
                assert acked < batches <= store.high_water(STREAM, "scalars") + 1
                assert raw.steps.tolist() == list(range(batches * ROWS))
                expected = np.concatenate([values_of(n)[which] for n in range(batches)])
                assert (raw.values.view(np.uint64) == expected.view(np.uint64)).all()
        assert not store.journal(RUN)
    finally:
        store.close()
