"""What the benchmarks share: a real server process, versions, paired figures, the closing line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY_TIMEOUT_S = 60.0


@contextmanager
def server() -> Iterator[dict[str, str]]:
    """A server of its own on a free port; yields the environment of a training that reports to it.

    Where the server's packages are not installed the training keeps its data on disk instead.
    """
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        root = Path(directory)
        own = {
            **{k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")},
            "NANWATCH_DATA_DIR": str(root / "data"),
        }
        if not installed("uvicorn") or not installed("sqlalchemy"):
            yield {**own, "NANWATCH_MODE": "offline"}
            return
        ready = root / "ready.json"
        command = ["serve", "--port", "0", "--no-open", "--ready-file", str(ready)]
        process = subprocess.Popen(
            [sys.executable, "-m", "nanwatch", *command],
            env=own,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + READY_TIMEOUT_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the server did not start: try `nanwatch serve`")
                time.sleep(0.05)
            yield {**own, "NANWATCH_MODE": "online"}
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def installed(package: str) -> str:
    """Version of an installed distribution, empty if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions(*packages: str) -> dict[str, str]:
    """Versions of what was measured."""
    found = {package: installed(package) or "not installed" for package in packages}
    return {"python": platform.python_version(), **found}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, lower quartile, upper quartile)."""
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0], ordered[0], ordered[0]
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return middle, low, high


def closing_line(name: str, value: float, unit: str, target: float, **more: Any) -> None:
    """The last line of every benchmark: smaller is better, `ok` if the target is met.

    Where `also` holds further figures, `ok` is given by the caller, for all of them together, and
    `own_ok` for this one where more is better.
    """
    if "also" in more:
        more.setdefault("own_ok", value <= target)
    print(
        json.dumps(
            {
                "name": name,
                "value": round(value, 4),
                "unit": unit,
                "target": target,
                "ok": value <= target,
                **more,
            }
        )
    )


def figure(
    name: str, value: float, unit: str, target: float, *, most: bool = True
) -> dict[str, Any]:
    """Another figure of a benchmark with several targets, for `closing_line(also=[...])`.

    `most`: the target is the most that is allowed, else the least.
    """
    ok = value <= target if most else value >= target
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "ok": ok}
