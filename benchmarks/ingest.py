"""Target 4: points a second over the WebSocket, acknowledged after COMMIT and visible to a query.

100 series × 64 steps a batch, a real server process, one client. Once with series that no rule
reads, once with gradient norms per layer that all rules watch. Beside them, in the same run, the
raw engine: the same frames as blobs into SQLite, one commit for 64 of them.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from common import closing_line, server, versions
from websockets.sync.client import connect

from nanwatch.contract import frames as f
from nanwatch.contract.limits import CREDIT_BATCHES, INGEST_PATH, PROTOCOL

SERIES, STEPS = 100, 64
TARGET_POINTS_S, TARGET_RULES_POINTS_S = 5_000_000, 2_000_000


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
    """Encoded batches of a healthy training."""
    noise = np.random.default_rng(0).lognormal(0.0, 0.2, size=(SERIES, STEPS))
    noise[2:4] = 1.0
    values, ids = np.ascontiguousarray(noise).tobytes(), list(range(SERIES))
    made = []
    for number in range(count):
        steps = np.arange(number * STEPS, (number + 1) * STEPS, dtype="<i8")
        table = f.Table(
            ids=ids,
            steps=steps.tobytes(),
            times=(1.7e9 + steps * 0.01).astype("<f8").tobytes(),
            values=values,
        )
        made.append(f.encode(f.Batch(lane="scalars", first=number, records=[table])))
    return made


def send(url: str, token: str, frames: list[bytes], watched: bool) -> float:
    """Seconds until the last batch is acknowledged and a query would see it."""
    run = f.RunInfo(id=uuid.uuid4().hex, project="bench", name="ingest", started_at=time.time())
    span = f.Span(0, len(frames) - 1)
    hello = f.Hello(
        proto=[1], sdk="bench", run=run, rank=0, world=1, epoch=1, wall=time.time(),
        events=f.Span(0, -1), scalars=span,
    )  # fmt: skip
    with connect(
        url.replace("http", "ws", 1) + INGEST_PATH,
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[PROTOCOL],  # type: ignore[list-item]
        compression=None,
        proxy=None,
    ) as socket:
        socket.send(f.encode(hello))
        welcome = f.decode_server(socket.recv())  # type: ignore[arg-type]
        assert isinstance(welcome, f.Welcome)
        socket.send(f.encode(f.Declare(series=declared(watched))))
        started = time.perf_counter()
        acked, sent, credit = -1, 0, welcome.credit or CREDIT_BATCHES
        while acked < len(frames) - 1:
            while sent < len(frames) and sent - acked <= credit:
                socket.send(frames[sent])
                sent += 1
            answer: Any = f.decode_server(socket.recv())  # type: ignore[arg-type]
            if isinstance(answer, f.Ack):
                acked, credit = answer.upto, answer.credit
            elif isinstance(answer, f.Slow):
                time.sleep(answer.retry)
                sent, credit = acked + 1, max(1, answer.credit)
            elif isinstance(answer, f.Reject):
                raise RuntimeError(f"refused: {answer.code}: {answer.message}")
        return time.perf_counter() - started


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


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    quick = parser.parse_args().quick
    count, rounds = (600, 3) if quick else (3_000, 5)
    frames = batches(count)
    points = count * SERIES * STEPS
    found: dict[str, list[float]] = {"no rules": [], "all rules": [], "raw SQLite blobs": []}
    with server() as environment:
        info = json.loads((Path(environment["NANWATCH_DATA_DIR"]) / "server.json").read_text())
        url, token = info["url"], info["ingest_token"]
        send(url, token, frames[:100], watched=True)  # warm-up
        for _ in range(rounds):
            found["no rules"].append(points / send(url, token, frames, watched=False))
            found["all rules"].append(points / send(url, token, frames, watched=True))
            found["raw SQLite blobs"].append(points / raw_engine(frames))
    print(f"{'':22}{'M points/s':>12}{'min':>9}{'max':>9}")
    for name, rates in found.items():
        low, middle, high = min(rates), statistics.median(rates), max(rates)
        print(f"{name:22}{middle / 1e6:12.2f}{low / 1e6:9.2f}{high / 1e6:9.2f}")
    value = statistics.median(found["no rules"])
    rules = statistics.median(found["all rules"])
    closing_line(
        "ingest",
        value,
        "points/s",
        TARGET_POINTS_S,
        ok=value >= TARGET_POINTS_S and rules >= TARGET_RULES_POINTS_S,
        versions=versions("uvicorn", "websockets", "sqlalchemy", "msgspec"),
    )


if __name__ == "__main__":
    main()
