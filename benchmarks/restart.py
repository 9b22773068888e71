"""Target 14: how long a server with ten million points needs until it answers after kill -9.

It is killed while points come in, started, asked for a chart, killed at once and started *again*.
*Ready*: from the start of the new process until its health route answers, which is what the target
speaks of. *Chart*: until a chart of the newest run, drawn from what the crash left, has been
answered as well. Every acknowledged point must be in the chart.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

import numpy as np
from common import closing_line, spread, versions
from service import Reader, Service, batch, dial, hello, read_series, service
from websockets.exceptions import ConnectionClosed

from nanwatch.contract import frames as f

TARGET_S = 3.0
SERIES, ROWS = 100, 512


def batches(count: int) -> list[bytes]:
    """A training's batches."""
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 0.2, (SERIES, ROWS))).astype(np.float32)
    return [batch(number, range(SERIES), number * ROWS, values) for number in range(count)]


def declared() -> list[f.SeriesDecl]:
    """Loss and gradient norms: what rules read, so that they have something to restore."""
    layers = (f.SeriesDecl(n, "grad_norm_layer", "", f"layers.{n}") for n in range(1, SERIES))
    return [f.SeriesDecl(0, "loss"), *layers]


def killed_while_sending(server: Service, frames: list[bytes], points: int) -> tuple[str, int]:
    """Send until `points` are acknowledged, kill -9 with more on the way: (run, steps acked)."""
    first, acked = hello("restart", len(frames)), [-1]
    enough = points // (SERIES * ROWS)
    with dial(server, first) as (socket, welcome):

        def listen() -> None:
            try:
                while True:
                    answer: Any = f.decode_server(socket.recv())  # type: ignore[arg-type]
                    if isinstance(answer, f.Ack):
                        acked[0] = max(acked[0], answer.upto)
            except ConnectionClosed:
                pass

        socket.send(f.encode(f.Declare(series=declared())))
        listener = threading.Thread(target=listen)
        listener.start()
        try:
            for number, frame in enumerate(frames):
                while number - acked[0] > welcome.credit:
                    time.sleep(0.001)
                if acked[0] >= enough:
                    break
                socket.send(frame)
        finally:
            server.stop(kill=True)
        listener.join(30)
    return first.run.id, (acked[0] + 1) * ROWS


def once(server: Service, run_id: str, steps: int) -> tuple[float, float]:
    """Start again: (seconds until ready, seconds until the chart)."""
    started = time.perf_counter()
    ready = server.start()
    reader = Reader(server)
    one = reader.ids(run_id)[0]
    path = f"/api/runs/{run_id}/series?ids={one}&buckets=2000"
    columns = read_series(reader.get(path))[one]
    found = columns["count"].sum() if "count" in columns else len(columns["steps"])
    took = time.perf_counter() - started
    if found < steps:
        raise RuntimeError(f"acknowledged {steps} steps of a series, found {found:.0f}")
    return ready, took


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    points, rounds = (10_000_000, 2) if quick else (10_000_000, 5)
    frames = batches(points // (SERIES * ROWS) + 200)
    found: dict[str, list[float]] = {"ready": [], "chart": [], "ready again": [], "chart again": []}
    for _ in range(rounds):
        with service() as server:
            run_id, steps = killed_while_sending(server, frames, points)
            for name in ("", " again"):
                ready, chart = once(server, run_id, steps)
                found[f"ready{name}"].append(ready)
                found[f"chart{name}"].append(chart)
                server.stop(kill=True)
    print(f"{'seconds after kill -9 with 10 M points':44}{'median':>9}{'q25':>9}{'q75':>9}{'n':>4}")
    for name, values in found.items():
        middle, low, high = spread(values)
        print(f"{name:44}{middle:9.2f}{low:9.2f}{high:9.2f}{len(values):4}")
    value = max(spread(found["ready"])[0], spread(found["ready again"])[0])
    closing_line(
        "restart",
        value,
        "s",
        TARGET_S,
        versions=versions("nanwatch", "sqlalchemy", "uvicorn", "pcodec"),
    )


if __name__ == "__main__":
    main()
