"""Lists that scale: 10,000 runs, and 20,000 series of one run, over HTTP, one connection.

A page of each, a page from the middle, a search that finds few, and runs by status. The rows are
written straight into the database before the server starts; each run has a configuration of thirty
values, as trainings do. The target is issue 3's: less than 100 ms, for the slowest kind of page.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import closing_line, spread, versions
from service import Reader, Service

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import Stream
from nanwatch_server.store import tables as t
from nanwatch_server.store.rows import pack
from nanwatch_server.store.sql import SqlStore

TARGET_MS = 100.0
RUNS, SERIES = 10_000, 20_000
PAGE = 200
AT_ONCE = 1_000


def fill(directory: Path) -> str:
    """Every run and series; the run with many series."""
    config = pack({f"option_{n:02}": f"a value of number {n}" for n in range(30)})
    facts = pack({"host": "node-17", "script": "train.py", "python": "3.11.7"})
    now, many = time.time(), uuid.uuid4().hex
    directory.mkdir(exist_ok=True)
    store = SqlStore(directory)
    runs = [
        {
            "id": many if n == RUNS // 2 else uuid.uuid4().hex,
            "project": f"project-{n % 40}",
            "name": f"sweep-{n // 100}-trial-{n % 100}",
            "created_at": now - n,
            "started_at": now - n,
            "config": config,
            "facts": facts,
            # One in a thousand was seen just now, one in a hundred has not said that it ended.
            "last_seen_at": now + 60 if n % 1_000 == 0 else now - 3_600,
            "last_step": n,
            "ended_at": None if n % 100 == 0 else now - 3_600,
            "end_reason": "",
            "exit_code": None if n % 100 == 0 else 0,
        }
        for n in range(RUNS)
    ]
    for begin in range(0, RUNS, AT_ONCE):
        with store.write() as uow:
            uow.db.execute(t.runs.insert(), runs[begin : begin + AT_ONCE])
    stream = Stream(run_id=many, rank=0, epoch=1)
    for begin in range(0, SERIES, AT_ONCE):
        with store.write() as uow:
            uow.declare(
                stream,
                [
                    f.SeriesDecl(n, "grad_norm_layer", "", f"encoder.{n // 12}.block.{n % 12}")
                    for n in range(begin, begin + AT_ONCE)
                ],
            )
    store.close()
    return many


def questions(many: str, middle: str) -> dict[str, tuple[str, Callable[[dict[str, Any]], bool]]]:
    """What is asked, and what the answer must look like."""

    def page(least: int, key: str = "runs") -> Callable[[dict[str, Any]], bool]:
        return lambda answer: len(answer[key]) >= least

    runs, names = f"/api/runs?limit={PAGE}", f"/api/runs/{many}/names?limit=1000"
    return {
        "10,000 runs: newest page": (runs, page(PAGE)),
        "10,000 runs: page from the middle": (f"{runs}&after={middle}", page(PAGE)),
        "10,000 runs: search that finds 1": (f"{runs}&q=sweep-99-trial-99", page(1)),
        "10,000 runs: search that finds none": (f"{runs}&q=nothing-like-it", page(0)),
        "10,000 runs: one project": (f"{runs}&project=project-7", page(PAGE)),
        "10,000 runs: status live": (f"{runs}&status=live", page(0)),
        "10,000 runs: status lost": (f"{runs}&status=lost", page(90)),
        "10,000 runs: status stalled": (f"{runs}&status=stalled", page(0)),
        "10,000 runs: status ended": (f"{runs}&status=ended", page(PAGE)),
        "20,000 series: first page": (names, page(1000, "series")),
        "20,000 series: page from the middle": (
            f"{names}&after={SERIES // 2}",
            page(1000, "series"),
        ),
        "20,000 series: search that finds few": (f"{names}&q=encoder.1666", page(8, "series")),
    }


def main() -> None:
    """Print the table and the closing JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 10 if parser.parse_args().quick else 50
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        many = fill(Path(directory) / "data")
        server = Service(Path(directory) / "data")
        server.start()
        try:
            reader = Reader(server)
            for name, (path, right) in questions(many, str(RUNS // 2)).items():
                assert right(reader.json(path)), name
                took = found.setdefault(name, [])
                for _ in range(repeats):
                    started = time.perf_counter()
                    reader.get(path)
                    took.append((time.perf_counter() - started) * 1e3)
        finally:
            server.stop()
    print(f"{'ms':46}{'median':>10}{'q25':>10}{'q75':>10}{'max':>10}{'n':>5}")
    for name, took in found.items():
        middle, low, high = spread(took)
        print(f"{name:46}{middle:10.2f}{low:10.2f}{high:10.2f}{max(took):10.2f}{len(took):5}")
    closing_line(
        "lists: slowest kind of page, median",
        max(spread(took)[0] for took in found.values()),
        "ms",
        TARGET_MS,
        versions=versions("nanwatch", "uvicorn", "sqlalchemy"),
    )


if __name__ == "__main__":
    main()
