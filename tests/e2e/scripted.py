"""A training whose every word on the wire is written by the test: real socket, real server.

For what a real training says only when something is badly wrong, at a moment nobody can choose.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nanwatch.contract import frames as f
from nanwatch.contract.commands import ControlOffer
from tests.server.wire import RUN, Wire, table

BEAT_S = 0.5


class Scripted:
    """One connected run. Answers every command: accepted, then applied at the step it is at."""

    def __init__(self, wire: Wire) -> None:
        self.step = 0
        self._wire, self._lock = wire, threading.Lock()
        self._next: dict[f.Lane, int] = {"events": 0, "scalars": 0}
        self._ids: dict[tuple[str, str], int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def records(self, *records: f.Record, lane: f.Lane = "events") -> None:
        """Send records and count them."""
        with self._lock:
            batch = f.Batch(lane=lane, first=self._next[lane], records=list(records))
            self._next[lane] += len(records)
            self._wire.send(batch)

    def points(self, values: dict[tuple[str, str], np.ndarray]) -> None:
        """One value a step for each (kind, layer), behind the steps so far."""
        fresh = [key for key in values if key not in self._ids]
        with self._lock:
            for key in fresh:
                self._ids[key] = len(self._ids)
            if fresh:
                decls = [f.SeriesDecl(self._ids[k, n], k, "", n) for k, n in fresh]
                self._wire.send(f.Declare(series=decls))
        count = len(next(iter(values.values())))
        steps = np.arange(self.step, self.step + count)
        times = time.time() - (count - np.arange(count)) * 0.01
        ids = [self._ids[key] for key in values]
        self.records(table(ids, steps, list(values.values()), times), lane="scalars")
        self.step += count

    def beat(self, **said: dict[str, int] | float) -> None:
        """A sign of life."""
        with self._lock:
            self._wire.send(f.Beat(step=self.step - 1, wall=time.time(), **said))  # type: ignore[arg-type]

    def close(self) -> None:
        """No more answers."""
        self._stop.set()
        self._thread.join(5)

    def _answer(self) -> None:
        while not self._stop.is_set():
            try:
                frame = self._wire.receive(BEAT_S)
            except TimeoutError:
                continue
            if isinstance(frame, f.Command):
                with self._lock:
                    self._wire.send(f.Accepted(id=frame.id, nonce=7))
            elif isinstance(frame, f.Go):
                said = "every layer is looked at for 50 attempts"
                self.records(
                    f.CommandResult(
                        id=frame.id, state="applied", time=time.time(), step=self.step, message=said
                    )
                )


@contextmanager
def scripted(url: str, token: str, control: ControlOffer | None = None) -> Iterator[Scripted]:
    """A run named `scripted` that is connected inside the block."""
    with Wire(url, token) as wire:
        wire.hello(run=RUN, name="scripted", started_at=time.time(), control=control)
        run = Scripted(wire)
        try:
            yield run
        finally:
            run.close()
