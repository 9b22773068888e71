"""Memory of the server while it takes in, compacts and draws one run of a hundred million points.

Bounded means that more points take no more: what is held is bounded by limits of the store (newest
points 480 MB, decoded chunks 192 MB, one pass of the compactor, what waits for the rules 64 MB).
The same is shown for the first tenth of the run; each time all is compacted and every series drawn,
whole and in parts. Resident memory of the process, sampled; Linux alone tells it.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from common import closing_line, versions
from service import Reader, Service, dial, hello, service, table
from websockets.sync.client import ClientConnection

from nanwatch.contract import frames as f

TARGET_MIB = 2_048.0
"""The limits together, and as much again for what is decoded or being freed."""
SERIES, ROWS = 100, 1_024
SAMPLE_S = 0.05
BUCKETS = 2_000


class Peak:
    """Largest resident memory of the server, in MiB, since `reset`."""

    def __init__(self, server: Service) -> None:
        self._status = Path(f"/proc/{server.pid}/statm")
        self._over = threading.Event()
        self.mib = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self) -> float:
        """MiB at this moment."""
        return int(self._status.read_text().split()[1]) * 4096 / 2**20

    def reset(self) -> None:
        """Forget the peak so far."""
        self.mib = 0.0

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.mib = max(self.mib, self.now())


class Training:
    """One run that sends as fast as the server takes it."""

    def __init__(self, socket: ClientConnection, credit: int) -> None:
        rng = np.random.default_rng(0)
        self._values = np.exp(rng.normal(0, 0.2, (SERIES, ROWS))).astype(np.float32)
        self._socket, self._credit = socket, credit
        self._sent, self._acked = 0, -1
        layers = (f.SeriesDecl(n, "grad_norm_layer", "", f"layers.{n}") for n in range(1, SERIES))
        socket.send(f.encode(f.Declare(series=[f.SeriesDecl(0, "loss"), *layers])))

    def until(self, batches: int) -> None:
        """Send up to so many batches of the whole; all are acknowledged when it returns."""
        while self._acked < batches - 1:
            while self._sent < batches and self._sent - self._acked <= self._credit:
                record = table(range(SERIES), self._sent * ROWS, self._values)
                batch = f.Batch(lane="scalars", first=self._sent, records=[record])
                self._socket.send(f.encode(batch))
                self._sent += 1
            answer = f.decode_server(self._socket.recv())  # type: ignore[arg-type]
            if isinstance(answer, f.Ack):
                self._acked, self._credit = answer.upto, answer.credit
            elif isinstance(answer, f.Slow):
                time.sleep(answer.retry)


@contextmanager
def training(server: Service, batches: int) -> Iterator[tuple[Training, str]]:
    """A connected run and its id."""
    first = hello("memory", batches)
    with dial(server, first) as (socket, welcome):
        yield Training(socket, welcome.credit), first.run.id


def draw(reader: Reader, run_id: str, steps: int) -> None:
    """Every series whole, then the middle of it near enough for single points."""
    ids = reader.ids(run_id)
    parts = [ids[n : n + 50] for n in range(0, len(ids), 50)]
    for part in parts:
        wanted = ",".join(map(str, part))
        reader.get(f"/api/runs/{run_id}/series?ids={wanted}&buckets={BUCKETS}")
        begin = steps // 2
        near = f"&x0={begin}&x1={begin + BUCKETS}"
        reader.get(f"/api/runs/{run_id}/series?ids={wanted}&buckets={BUCKETS}{near}")


def measure(points: int) -> list[tuple[str, int, float]]:
    """(phase, points, peak MiB), for the first tenth and for all of it."""
    whole = points // (SERIES * ROWS)
    found: list[tuple[str, int, float]] = []
    with service() as server, training(server, whole) as (run, run_id):
        peak = Peak(server)
        found.append(("started", 0, peak.now()))
        for batches in (whole // 10, whole):
            there = batches * SERIES * ROWS
            peak.reset()
            run.until(batches)
            found.append(("taken in", there, peak.mib))
            peak.reset()
            server.wait_compacted(run_id, timeout_s=600.0)
            found.append(("compacted", there, peak.mib))
            peak.reset()
            reader = Reader(server)  # a connection that rests for long is closed
            draw(reader, run_id, batches * ROWS)
            found.append(("drawn", there, peak.mib))
            seen = reader.points(run_id, reader.ids(run_id))
            assert seen == there, (seen, there)
        peak.end()
    return found


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten million points")
    points = 10_000_000 if parser.parse_args().quick else 100_000_000
    found = measure(points)
    print(f"{'resident memory of the server':36}{'points':>14}{'peak MiB':>12}")
    for phase, there, mib in found:
        print(f"{phase:36}{there:14,}{mib:12.0f}")
    closing_line(
        "peak memory",
        max(mib for *_, mib in found),
        "MiB",
        TARGET_MIB,
        points=found[-1][1],
        versions=versions("nanwatch", "sqlalchemy", "pcodec"),
    )


if __name__ == "__main__":
    main()
