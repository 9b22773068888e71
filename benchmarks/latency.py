"""Target 10: from `log` to a query that sees it, and from a bad step to an incident.

While many trainings log to the same server (a process of their own), a real SDK in this process
calls `run.log`; a connection asks for the series until its newest value is there. Then one training
after another sends a step with a NaN loss; the time runs until its incident arrives on a browser's
live socket, and until the API shows it. Times include the SDK's own frame interval.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from common import closing_line, figure, versions
from fleet import SERIES, declared, fleet, healthy
from service import Reader, Service, batch, dial, feed, hello, service
from websockets.sync.client import ClientConnection, connect

from nanwatch.contract import frames as f
from nanwatch.contract.limits import LIVE_PATH

SEEN_P99_MS, INCIDENT_P50_MS, INCIDENT_P99_MS = 150.0, 300.0, 1_000.0
POLL_S, PATIENCE_S = 0.004, 30.0
PAUSE_S = 0.07
"""Between two logs, so that they fall everywhere between two frames."""


def log_to_query(server: Service, directory: str, samples: int) -> list[float]:
    """Milliseconds from `run.log` to a query that sees the value, with the real SDK."""
    os.environ |= {
        "NANWATCH_URL": server.url,
        "NANWATCH_TOKEN": server.token,
        "NANWATCH_MODE": "online",
        "NANWATCH_DATA_DIR": directory,
    }
    import nanwatch

    run: Any = nanwatch.init("bench-latency")
    if not run.worker.connected.wait(20):
        raise RuntimeError("not connected to the server")
    run.log(ticket=0.0)
    reader, took = Reader(server), []
    until = time.monotonic() + PATIENCE_S
    while not (ids := reader.ids(run.id)) and time.monotonic() < until:
        time.sleep(POLL_S)
    one = ids[0]
    for number in range(1, samples + 1):
        time.sleep(PAUSE_S * (0.5 + number % 7 / 7))
        started = time.perf_counter()
        run.log(ticket=float(number))
        while reader.newest(run.id, one) != number:
            if time.perf_counter() - started > PATIENCE_S:
                raise RuntimeError(f"value {number} was not seen within {PATIENCE_S:.0f} s")
            time.sleep(POLL_S)
        took.append((time.perf_counter() - started) * 1e3)
    run.finish()
    return took


@contextmanager
def _live(server: Service) -> Iterator[ClientConnection]:
    with connect(
        server.url.replace("http", "ws", 1) + LIVE_PATH,
        additional_headers={"Authorization": f"Bearer {server.admin}"},
        compression=None,
        proxy=None,
        max_size=None,
    ) as socket:
        socket.send(json.dumps({"type": "watch", "topic": "wall"}))
        yield socket


def _await_incident(page: ClientConnection, run_id: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        frame = page.recv(timeout=max(0.1, until - time.monotonic()))
        assert isinstance(frame, bytes)
        size = int.from_bytes(frame[:4], "little")
        header = json.loads(frame[8 : 8 + size])
        if header["type"] == "incident" and header["run"] == run_id:
            return


def step_to_incident(server: Service, samples: int) -> tuple[list[float], list[float]]:
    """Milliseconds from a step with a NaN loss to its incident: (live socket, API)."""
    rng, live, shown = np.random.default_rng(0), [], []
    reader, ids, before = Reader(server), range(SERIES), 64
    for _ in range(samples):
        first = hello("bad step", before + 1)
        with dial(server, first) as (socket, welcome), _live(server) as page:
            socket.send(f.encode(f.Declare(series=declared())))
            values = healthy(rng, before + 1)
            values[0, -1] = np.nan
            feed(socket, [batch(0, ids, 0, values[:, :before])], welcome.credit)
            time.sleep(0.2)  # a training that has been well for a while
            started = time.perf_counter()
            socket.send(batch(1, ids, before, values[:, before:]))
            _await_incident(page, first.run.id)
            live.append((time.perf_counter() - started) * 1e3)
            while not reader.json(f"/api/runs/{first.run.id}/incidents")["incidents"]:
                if time.perf_counter() - started > PATIENCE_S:
                    raise RuntimeError("no incident")
                time.sleep(POLL_S)
            shown.append((time.perf_counter() - started) * 1e3)
    return live, shown


def row(name: str, values: list[float]) -> tuple[float, float]:
    """One line of the table: (p50, p99)."""
    p50, p99 = (float(np.percentile(values, q, method="higher")) for q in (50, 99))
    print(f"{name:44}{p50:10.1f}{p99:10.1f}{max(values):10.1f}{len(values):7}")
    return p50, p99


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 trainings, fewer samples")
    quick = parser.parse_args().quick
    trainings, logs, bad = (20, 60, 12) if quick else (200, 500, 150)
    load_s = (logs * 0.25 + bad * 0.8) if quick else (logs * 0.3 + bad * 1.0)
    with (
        service() as server,
        tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory,
        fleet(server, trainings, load_s) as others,
    ):
        others.go()
        time.sleep(1.0)
        seen = log_to_query(server, directory, logs)
        live, shown = step_to_incident(server, bad)
        early = others.running()
    if not early:
        print("the other trainings ended before the last sample")
    print(
        f"{f'ms, with {trainings} trainings connected':44}{'p50':>10}{'p99':>10}{'max':>10}{'n':>7}"
    )
    _, seen_p99 = row("log -> visible to a query", seen)
    live_p50, live_p99 = row("bad step -> incident on the live socket", live)
    api_p50, api_p99 = row("bad step -> incident in the API", shown)
    incident_p50, incident_p99 = max(live_p50, api_p50), max(live_p99, api_p99)
    also = [
        figure("latency: bad step to incident, p50", incident_p50, "ms", INCIDENT_P50_MS),
        figure("latency: bad step to incident, p99", incident_p99, "ms", INCIDENT_P99_MS),
    ]
    closing_line(
        "latency: log to query, p99",
        seen_p99,
        "ms",
        SEEN_P99_MS,
        ok=seen_p99 <= SEEN_P99_MS and all(one["ok"] for one in also) and early,
        also=also,
        trainings=trainings,
        versions=versions("nanwatch", "uvicorn", "websockets", "msgspec"),
    )


if __name__ == "__main__":
    main()
