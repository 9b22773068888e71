"""Targets 6 and 7: a chart of a million steps in 2,000 buckets, and 50 series in one call.

A real server process; points travel in by the ingest socket, are compacted by the server itself
and are read over HTTP on a kept-alive connection. *Hot*: asked before. *Cold*: the first query of
a series since the server was started. The chart holds one spike and one NaN, which the answer must
show. Fifty charts side by side are asked for with the API's default of 1,000 buckets each, which
is also what TensorBoard keeps of each series. In the same run: the raw engine (a stored min/max
level read from SQLite), TensorBoard, and an MLflow server if there is one.
"""

from __future__ import annotations

import argparse
import math
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
from common import closing_line, figure, installed, spread, versions
from service import Reader, Service, batch, read_series, service, upload

from nanwatch.contract import frames as f

BUCKETS = 2_000
HOT_MS, COLD_MS, MANY_MS = 2.0, 10.0, 10.0
LONG, MANY, SHORT = 1_000_000, 50, 100_000
LONG_ROWS, SHORT_ROWS = 4_096, 1_024
"""Steps of one batch."""


def long_series(seed: int) -> np.ndarray:
    """A noisy random walk in float32 with one spike and one NaN."""
    rng = np.random.default_rng(seed)
    walk = (np.cumsum(rng.normal(size=LONG)) * 0.01 + rng.normal(size=LONG)).astype(np.float32)
    walk[LONG // 3], walk[LONG // 2 + 7] = 1e6, np.nan
    return walk


def upload_long(server: Service, values: np.ndarray) -> str:
    """A run with one series of a million steps."""
    frames = [
        batch(number, [0], at, values[None, at : at + LONG_ROWS])
        for number, at in enumerate(range(0, LONG, LONG_ROWS))
    ]
    return upload(server, "long", [f.SeriesDecl(0, "custom", "", "metric")], frames)


def upload_many(server: Service, values: np.ndarray) -> str:
    """A run with fifty series of a hundred thousand steps."""
    ids = list(range(MANY))
    frames = [
        batch(number, ids, at, values[:, at : at + SHORT_ROWS])
        for number, at in enumerate(range(0, SHORT, SHORT_ROWS))
    ]
    declared = [f.SeriesDecl(n, "custom", "", f"metric{n:02}") for n in ids]
    return upload(server, "many", declared, frames)


def cold_ms(server: Service, paths: list[str]) -> list[float]:
    """Milliseconds of the first query of each, after a restart."""
    server.stop()
    server.start()
    reader = Reader(server)
    reader.get("/api/session")  # the connection and the token, not the series
    return [timed_ms(lambda path=path: reader.get(path))[0] for path in paths]


def timed_ms(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of one call, and what it returned."""
    started = time.perf_counter()
    found = call()
    return (time.perf_counter() - started) * 1e3, found


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by more than 1 - `share` of them."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def check_chart(frame: bytes, series_id: int, values: np.ndarray) -> None:
    """Spike and NaN are in the answer, no point is missing, and there are few buckets."""
    columns = read_series(frame)[series_id]
    assert len(columns["count"]) <= BUCKETS, len(columns["count"])
    assert columns["count"].sum() == LONG, columns["count"].sum()
    assert columns["nan"].sum() == 1, columns["nan"].sum()
    top = int(np.nanargmax(columns["max"]))
    assert columns["max"][top] == 1e6 and columns["max_step"][top] == LONG // 3
    assert np.nanmin(columns["min"]) == float(np.nanmin(values))


def nanwatch(repeats: int, restarts: int) -> dict[str, list[float]]:
    """Milliseconds of each kind of query."""
    kinds = ("hot", "cold", "many hot", "many wide", "many cold")
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    with service() as server:
        several = [long_series(seed) for seed in range(3)]
        runs = [upload_long(server, values) for values in several]
        short = np.random.default_rng(9).normal(size=(MANY, SHORT)).astype(np.float32)
        together = upload_many(server, short)
        waited = [server.wait_compacted(run) for run in (*runs, together)]
        print(f"compacted by the server {sum(waited):.0f} s after the last point")
        reader = Reader(server)
        ids = [reader.ids(run)[0] for run in runs]
        paths = [
            f"/api/runs/{run}/series?ids={one}&buckets={BUCKETS}"
            for run, one in zip(runs, ids, strict=True)
        ]
        wanted = ",".join(map(str, reader.ids(together)))
        all_path = f"/api/runs/{together}/series?ids={wanted}"  # as many buckets as by default
        wide_path = f"{all_path}&buckets={BUCKETS}"
        for one, path, values in zip(ids, paths, several, strict=True):
            check_chart(reader.get(path), one, values)
        answer = read_series(reader.get(all_path))
        assert len(answer) == MANY and all(c["count"].sum() == SHORT for c in answer.values())
        for _ in range(repeats):
            found["hot"].append(timed_ms(lambda: reader.get(paths[0]))[0])
            found["many hot"].append(timed_ms(lambda: reader.get(all_path))[0])
        for _ in range(max(5, repeats // 10)):
            found["many wide"].append(timed_ms(lambda: reader.get(wide_path))[0])
        for _ in range(restarts):
            *single, several_ms = cold_ms(server, [*paths, all_path])
            found["cold"] += single
            found["many cold"].append(several_ms)
    return found


def raw_engine(repeats: int) -> dict[str, list[float]]:
    """A stored min/max level of the same charts, read from SQLite in this process."""
    found: dict[str, list[float]] = {"chart": [], "many": []}
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        db = sqlite3.connect(Path(directory) / "raw.sqlite", isolation_level=None)
        db.execute("CREATE TABLE level (series INTEGER PRIMARY KEY, data BLOB)")
        level = np.random.default_rng(0).normal(size=(2, BUCKETS))
        for number in range(MANY):
            db.execute("INSERT INTO level VALUES (?, ?)", (number, level.tobytes()))

        def read(count: int) -> list[np.ndarray]:
            rows = db.execute("SELECT data FROM level WHERE series < ?", (count,))
            return [np.frombuffer(row[0]).reshape(2, -1) for row in rows]

        for _ in range(repeats):
            found["chart"].append(timed_ms(lambda: read(1))[0])
            found["many"].append(timed_ms(lambda: read(MANY))[0])
        db.close()
    return found


def tensorboard(
    long: int, short: int, charts: int, repeats: int, samples: int | None
) -> dict[str, list[float]]:
    """Its page's own calls: one chart, then several in turn."""
    found: dict[str, list[float]] = {"chart": [], "many": []}
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        root, tags = Path(directory), [f"metric{n:02}" for n in range(charts)]
        peers.write_events(root / "long", {"metric": rng.normal(size=long)})
        peers.write_events(root / "many", {tag: rng.normal(size=short) for tag in tags})
        with peers.tensorboard(root, samples=samples) as client:
            least = min(short, samples or 1_000)
            until = time.monotonic() + 120
            while any(
                len(peers.tensorboard_points(client, run, tag)) < least
                for run, tag in (("long", "metric"), ("many", tags[-1]))
            ):
                if time.monotonic() > until:
                    raise RuntimeError("TensorBoard did not load the events")
                time.sleep(0.2)
            one = "/data/plugin/scalars/scalars"
            for _ in range(repeats):
                took, _body = timed_ms(lambda: client.get(one, run="long", tag="metric"))
                found["chart"].append(took)
                took, _body = timed_ms(lambda: [client.get(one, run="many", tag=t) for t in tags])
                found["many"].append(took)
    return found


def mlflow(long: int, short: int, charts: int, repeats: int) -> dict[str, list[float]]:
    """Its page's own calls: one chart, then several in turn."""
    found: dict[str, list[float]] = {"chart": [], "many": []}
    rng = np.random.default_rng(0)
    tags = [f"metric{n:02}" for n in range(charts)]
    with peers.mlflow() as server:
        one, many = server.new_run(), server.new_run()
        server.fill(one, {"metric": rng.normal(size=long)})
        server.fill(many, {tag: rng.normal(size=short) for tag in tags})
        for _ in range(repeats):
            took, points = timed_ms(lambda: server.chart(one, "metric"))
            assert points > 0, "MLflow gave no points"
            found["chart"].append(took)
            found["many"].append(timed_ms(lambda: [server.chart(many, t) for t in tags])[0])
    return found


def row(name: str, values: list[float], note: str = "") -> None:
    """One line of the table."""
    middle, low, high = spread(values)
    print(
        f"{name:46}{middle:10.2f}{low:10.2f}{high:10.2f}{percentile(values, 0.95):10.2f}"
        f"{len(values):5}  {note}"
    )


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller data for the peers")
    quick = parser.parse_args().quick
    repeats, restarts, again = (100, 2, 2) if quick else (400, 20, 5)
    long, short, charts = (LONG // 20, SHORT // 50, 5) if quick else (LONG, SHORT, MANY)
    found, raw = nanwatch(repeats, restarts), raw_engine(repeats)
    print(f"{'ms':46}{'median':>10}{'q25':>10}{'q75':>10}{'p95':>10}{'n':>5}")
    row("1 M steps in 2,000 buckets, hot", found["hot"])
    row("1 M steps in 2,000 buckets, cold", found["cold"], "first query after a start")
    row("  raw engine: stored level", raw["chart"])
    row("50 x 100 k steps in one call, hot", found["many hot"], "1,000 buckets each")
    row("50 x 100 k steps in one call, hot", found["many wide"], "2,000 buckets each")
    row("50 x 100 k steps in one call, cold", found["many cold"], "first query after a start")
    row("  raw engine: stored levels", raw["many"])
    sizes = f"{long:,} steps; {charts} x {short:,}"
    if installed("tensorboard"):
        for title, samples in (("1,000 random points", None), ("all points", long)):
            peer = tensorboard(long, short, charts, again, samples)
            row(f"TensorBoard, {title}, one chart", peer["chart"], sizes)
            row(f"TensorBoard, {title}, {charts} in turn", peer["many"], sizes)
    else:
        print(f"{'TensorBoard':46}{'not installed':>14}")
    if peers.mlflow_python():
        peer = mlflow(long, short, charts, again)
        row("MLflow, 2,500 points, one chart", peer["chart"], sizes)
        row(f"MLflow, 2,500 points, {charts} in turn", peer["many"], sizes)
    else:
        print(f"{'MLflow':46}{'not installed':>14}")
    hot, cold = statistics.median(found["hot"]), percentile(found["cold"], 0.95)
    many = statistics.median(found["many hot"])
    also = [
        figure("query: 1 M steps, cold p95", cold, "ms", COLD_MS),
        figure("query: 50 x 100 k steps, hot p50", many, "ms", MANY_MS),
    ]
    closing_line(
        "query: 1 M steps, hot p50",
        hot,
        "ms",
        HOT_MS,
        ok=hot <= HOT_MS and all(one["ok"] for one in also),
        also=also,
        versions={
            **versions("nanwatch", "uvicorn", "sqlalchemy", "pcodec", "tensorboard"),
            "mlflow": peers.mlflow_version(),
        },
    )


if __name__ == "__main__":
    main()
