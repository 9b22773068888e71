"""Speed of the rules: all of them over 200 layer series, one core (target 9 of the design)."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import numpy as np

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector

NAME = "rules over 200 layer series"
TARGET = 2e6
LAYERS = 200
SCALARS = 5


def recording(n: int, *, sick: bool) -> Block:
    """A clipped training with per-layer norms; the sick one explodes half-way."""
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(0, 0.4, (LAYERS, n)))
    if sick:
        norms *= 2.0 ** (np.maximum(0, np.arange(n) - n // 2) / 40)
    names = tuple(f"layers.{i}.weight" for i in range(LAYERS))
    steps = np.arange(n)
    scalars = {
        "loss": np.exp(rng.normal(0, 0.1, n)),
        "grad_norm": np.sqrt((norms**2).sum(axis=0)),
        "clip_threshold": np.full(n, 10.0),
        "update_applied": np.ones(n),
        "skip_reason": np.zeros(n),
    }
    return Block("", "train", steps, steps * 0.1, scalars, {"grad_norm_layer": (names, norms)})


def once(block: Block, size: int) -> float:
    """Points a second when `block` arrives in blocks of `size` attempts."""
    n = len(block)
    parts = [block.part(at, min(n, at + size)) for at in range(0, n, size)]
    detector = RunDetector("0" * 32, {})
    began = time.process_time()  # one core's time, whatever else the machine does
    for part in parts:
        detector.update(part)
    return (LAYERS + SCALARS) * n / (time.process_time() - began)


def main() -> None:
    """Print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer attempts; under 40 s")
    quick = parser.parse_args().quick
    repeats = 5 if quick else 11
    long = 2048 if quick else 8192
    print(f"{'attempts a block':>18} {'training':>9} {'M points/s':>11} {'us an attempt':>14}")
    headline = 0.0
    for size, sick in ((1, False), (8, False), (64, False), (64, True), (1024, False)):
        block = recording(long // (8 if size == 1 else 1), sick=sick)
        rate = statistics.median(once(block, size) for _ in range(repeats))
        if size == 64 and not sick:
            headline = rate
        micros = (LAYERS + SCALARS) / rate * 1e6
        print(f"{size:>18} {'sick' if sick else 'healthy':>9} {rate / 1e6:>11.2f} {micros:>14.0f}")
    result = {
        "name": NAME,
        "value": round(headline),
        "unit": "points/s",
        "target": TARGET,
        "ok": headline >= TARGET,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
