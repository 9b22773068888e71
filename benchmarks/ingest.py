"""Targets 4 and 5: points a second over the WebSocket, and 200 trainings with small batches.

*Target 4*: 100 series × 64 steps a batch, one client, a real server process. Once with series that
no rule reads: until the last batch is acknowledged and its last step is in the answer of a query.
Once with gradient norms per layer that all rules watch, and a NaN loss as the very last value:
until the incident of that NaN is in the API, so the rules have seen every point before it and
nothing hides in a queue. In the same run: the raw engine (the same frames as blobs into SQLite, one
commit for 64 of them), TensorBoard (event file → its HTTP API), an MLflow server (log-batch of
1,000, two clients), trackio if installed.

*Target 5*: 200 trainings × 50 points a second in a process of their own; times from when a batch
was due to its acknowledgement, and what a query finds afterwards.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers
from common import closing_line, figure, installed, versions
from fleet import SERIES as FLEET_SERIES
from fleet import fleet, lost
from service import Reader, Service, batch, dial, feed, hello, service

from nanwatch.contract import frames as f

SERIES, STEPS = 100, 64
TARGET_POINTS_S, TARGET_RULES_POINTS_S, TARGET_ACK_MS = 5_000_000, 2_000_000, 150.0
POLL_S, PATIENCE_S = 0.05, 120.0
"""A query takes a few milliseconds of the server that is measured: a hundred a second took an
eighth of it. What is measured takes seconds, of which this is 1 % at most."""


def declared(watched: bool) -> list[f.SeriesDecl]:
    """A hundred series; `watched` ones are what rules read."""
    if not watched:
        return [f.SeriesDecl(i, "custom", "", f"metric{i}") for i in range(SERIES)]
    kinds = ["loss", "grad_norm", "clip_threshold", "update_applied"]
    layers = [
        f.SeriesDecl(i, "grad_norm_layer", "", f"layers.{i}") for i in range(len(kinds), SERIES)
    ]
    return [*(f.SeriesDecl(i, kind) for i, kind in enumerate(kinds)), *layers]


def batches(count: int) -> list[bytes]:
    """Encoded batches of a healthy training whose very last loss is NaN."""
    values = np.random.default_rng(0).lognormal(0.0, 0.2, size=(SERIES, STEPS))
    values[2:4] = 1.0
    made = [batch(n, range(SERIES), n * STEPS, values) for n in range(count - 1)]
    bad = values.copy()
    bad[0, -1] = np.nan
    return [*made, batch(count - 1, range(SERIES), (count - 1) * STEPS, bad)]


def send(server: Service, frames: list[bytes], watched: bool) -> tuple[float, float]:
    """Seconds until the last batch is (acknowledged and seen by a query, judged by the rules)."""
    first, reader = hello("ingest", len(frames)), Reader(server)
    with dial(server, first) as (socket, welcome):
        socket.send(f.encode(f.Declare(series=declared(watched))))
        started = time.perf_counter()
        feed(socket, frames, welcome.credit)
        ids, last = reader.ids(first.run.id), len(frames) * STEPS - 1
        _until(lambda: reader.last_step(first.run.id, ids[-1]) >= last)
        seen = time.perf_counter() - started
        if watched:
            path = f"/api/runs/{first.run.id}/incidents"
            _until(lambda: any(i["fired_step"] == last for i in reader.json(path)["incidents"]))
        return seen, time.perf_counter() - started


def _until(condition) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"the last point was not seen within {PATIENCE_S:.0f} s")
        time.sleep(POLL_S)


def many(server: Service, trainings: int, seconds: float) -> tuple[list[float], int, int]:
    """(times to the acknowledgement in ms, points acknowledged, points lost)."""
    with fleet(server, trainings, seconds) as all_of_them:
        all_of_them.go()
        found = all_of_them.result()
    sent, runs = found["sent"], found["runs"]
    until = time.monotonic() + PATIENCE_S  # what is acknowledged is on its way to the readers
    while (missing := lost(server, runs, sent)) and time.monotonic() < until:
        time.sleep(POLL_S)
    unacked = (sent * len(runs) - found["acked"]) * FLEET_SERIES
    return found["ms"], found["acked"] * FLEET_SERIES, max(missing, unacked)


def raw_engine(frames: list[bytes]) -> float:
    """Seconds for the same frames as blobs in SQLite, `synchronous=FULL`, 64 a commit."""
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        db = sqlite3.connect(Path(directory) / "raw.sqlite", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE journal (n INTEGER PRIMARY KEY, frame BLOB)")
        started = time.perf_counter()
        for begin in range(0, len(frames), 64):
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO journal (frame) VALUES (?)", [(x,) for x in frames[begin : begin + 64]]
            )
            db.execute("COMMIT")
        took = time.perf_counter() - started
        db.close()
        return took


# --- peers ---------------------------------------------------------------------------------------


def tensorboard(seconds: float) -> float:
    """Points a second of `add_scalar` until the HTTP API shows the last one."""
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        root = Path(directory)
        with peers.tensorboard(root) as client:
            writer, step = SummaryWriter(str(root / "run")), 0
            started = time.perf_counter()
            while time.perf_counter() - started < seconds:
                for n in range(10):
                    writer.add_scalar(f"metric{n}", 0.1 * n, step)
                step += 1
            writer.flush()

            def shown() -> bool:
                found = peers.tensorboard_points(client, "run", "metric9")
                return bool(found) and found[-1][1] == step - 1

            _until(shown)
            took = time.perf_counter() - started
            writer.close()
    return 10 * step / took


def mlflow(seconds: float, clients: int = 2, points: int = 1_000) -> float:
    """Points a second of log-batch; what was answered is visible."""
    with peers.mlflow() as server:
        runs, calls = [server.new_run() for _ in range(clients)], [0] * clients
        ready = threading.Barrier(clients + 1)

        def log(number: int) -> None:
            client, now = peers.Http(server.port), int(time.time() * 1e3)
            warm = [{"key": "warm", "value": 0.0, "timestamp": now, "step": 0}]
            client.post("/api/2.0/mlflow/runs/log-batch", {"run_id": runs[number], "metrics": warm})
            ready.wait()
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                begin = calls[number] * points // 10
                metrics = [
                    {"key": f"m{n % 10}", "value": 0.1, "timestamp": now, "step": begin + n // 10}
                    for n in range(points)
                ]
                body = {"run_id": runs[number], "metrics": metrics}
                client.post("/api/2.0/mlflow/runs/log-batch", body)
                calls[number] += 1

        threads = [threading.Thread(target=log, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        ready.wait(PATIENCE_S)
        started = time.perf_counter()
        for thread in threads:
            thread.join()
        return sum(calls) * points / (time.perf_counter() - started)


def trackio(seconds: float) -> float:
    """Points a second of `trackio.log` until its local database holds the last one."""
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        os.environ["TRACKIO_DIR"] = directory
        library: Any = importlib.import_module("trackio")
        library.init(project="bench")
        started, step = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            library.log({f"metric{n}": 0.1 * n for n in range(10)})
            step += 1
        library.finish()  # waits for its thread
        return 10 * step / (time.perf_counter() - started)


def rate_row(name: str, rates: list[float]) -> None:
    """One line of the first table."""
    if not rates:
        print(f"{name:46}{'not installed':>14}")
        return
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    print(f"{name:46}{middle / 1e6:12.4f}{low / 1e6:9.4f}{high / 1e6:9.4f}{len(rates):5}")


def main() -> None:
    """Print the tables and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter; 50 trainings")
    quick = parser.parse_args().quick
    count, rounds, peer_s = (600, 2, 2.0) if quick else (3_000, 5, 20.0)
    trainings, seconds = (50, 5.0) if quick else (200, 60.0)
    frames, points = batches(count), count * SERIES * STEPS
    plain, judged, behind, raw = [], [], [], []
    with service() as server:
        send(server, batches(50), watched=True)  # warm-up
        for _ in range(rounds):
            plain.append(points / send(server, frames, watched=False)[0])
            seen, took = send(server, frames, watched=True)
            judged.append(points / took)
            behind.append(took - seen)
            raw.append(points / raw_engine(frames))
    with service() as server:
        took_ms, acked, missing = many(server, trainings, seconds)
    print(f"{'':46}{'M points/s':>12}{'min':>9}{'max':>9}{'n':>5}")
    rate_row("nanwatch, no rules, visible to a query", plain)
    rate_row("nanwatch, all rules, every point judged", judged)
    rate_row("  raw engine: frames as blobs into SQLite", raw)
    peer_rows = {
        "TensorBoard, add_scalar to its HTTP API": (installed("tensorboard"), tensorboard),
        "MLflow server, log-batch of 1,000": (peers.mlflow_python(), mlflow),
        "trackio, local": (installed("trackio"), trackio),
    }
    for name, (there, measure) in peer_rows.items():
        rate_row(name, [measure(peer_s)] if there else [])
    print(f"rules done {statistics.median(behind):.2f} s after the last point was visible")
    p50, p99 = (float(np.percentile(took_ms, q, method="higher")) for q in (50, 99))
    print(
        f"{trainings} trainings x 50 points/s: ack p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        f"max {max(took_ms):.1f} ms; {acked:,} points acked, {missing:,} lost"
    )
    value, rules = statistics.median(plain), statistics.median(judged)
    also = [
        figure("ingest: all rules", rules, "points/s", TARGET_RULES_POINTS_S, most=False),
        figure(f"ingest: ack p99, {trainings} trainings", p99, "ms", TARGET_ACK_MS),
        figure("ingest: points lost", missing, "points", 0),
    ]
    closing_line(
        "ingest: no rules",
        value,
        "points/s",
        TARGET_POINTS_S,
        ok=value >= TARGET_POINTS_S and all(one["ok"] for one in also),
        own_ok=value >= TARGET_POINTS_S,
        also=also,
        versions={
            **versions("nanwatch", "uvicorn", "websockets", "sqlalchemy", "msgspec"),
            **versions("tensorboard", "trackio"),
            "mlflow": peers.mlflow_version(),
        },
    )


if __name__ == "__main__":
    main()
