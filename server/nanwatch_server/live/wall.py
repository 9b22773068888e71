"""One line per run on the wall: its vitals from the newest points, and its sparkline. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COLUMNS = (
    "step",
    "loss",
    "loss_trend",
    "grad_norm",
    "clip_threshold",
    "clip_share",
    "applied_share",
    "steps_per_s",
    "age_s",
    "nonfinite_total",
)
WINDOW = 100
"""Attempts that the shares and the trend look back on."""
SPARK_BUCKETS = 120

Newest = Callable[[str, int], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(kind, count) → steps, times, values of the main scope's newest points."""


def vitals(newest: Newest, *, step: int, age_s: float, nonfinite_total: float) -> np.ndarray:
    """f64[columns]; NaN where nothing is known."""
    _, _, loss = newest("loss", WINDOW)
    norm_steps, times, norms = newest("grad_norm", WINDOW)
    clip_steps, _, clips = newest("clip_threshold", WINDOW)
    _, _, applied = newest("update_applied", WINDOW)
    if not len(times):
        _, times, _ = newest("loss", WINDOW)
    return np.array(
        [
            step if step >= 0 else np.nan,
            _last(loss),
            _trend(loss),
            _last(norms),
            _last(clips),
            _clip_share(norm_steps, norms, clip_steps, clips),
            float(np.mean(applied == 1.0)) if len(applied) else np.nan,
            _rate(times),
            age_s,
            nonfinite_total,
        ]
    )


def _last(values: np.ndarray) -> float:
    return float(values[-1]) if len(values) else np.nan


def _trend(values: np.ndarray) -> float:
    """Median of the newer half over that of the older, minus 1; NaN with few finite points."""
    values = values[np.isfinite(values)]
    half = len(values) // 2
    if half < 5:
        return np.nan
    old, new = np.median(values[:half]), np.median(values[half:])
    return float((new - old) / abs(old)) if old else np.nan


def _clip_share(
    norm_steps: np.ndarray, norms: np.ndarray, clip_steps: np.ndarray, clips: np.ndarray
) -> float:
    _, at_norm, at_clip = np.intersect1d(norm_steps, clip_steps, return_indices=True)
    if not len(at_norm):
        return np.nan
    return float(np.mean(norms[at_norm] > clips[at_clip]))


def _rate(times: np.ndarray) -> float:
    if len(times) < 2 or times[-1] <= times[0]:
        return np.nan
    return float((len(times) - 1) / (times[-1] - times[0]))


def spark(values: np.ndarray) -> np.ndarray:
    """At most `SPARK_BUCKETS` means; a bucket with a non-finite value is NaN."""
    if len(values) <= SPARK_BUCKETS:
        return np.asarray(values, np.float64)
    edges = np.linspace(0, len(values), SPARK_BUCKETS + 1).astype(np.int64)[:-1]
    with np.errstate(all="ignore"):
        return np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))
