"""Runs made up of series whose answer is known: for the tests of labels and of rule sets."""

from __future__ import annotations

import numpy as np
from scenarios.corpus.about import About
from scenarios.corpus.traces import Trace

from nanwatch_server.domain.models import Series
from nanwatch_server.domain.points import Points

SICK = About(family="regression", sick=True, cause="exploding-rnn")
HEALTHY = About(family="regression", sick=False)
N = 600


def trace(
    about: About,
    ending: str = "",
    facts: dict[str, str] | None = None,
    stage: str = "train",
    **kinds: np.ndarray,
) -> Trace:
    """A run of one scope whose kinds were measured at every attempt, from 0 on."""
    kinds.setdefault("update_applied", np.ones(len(next(iter(kinds.values())))))
    series = tuple(
        Series(id=i, run_id="r", rank=0, stage=stage, scope="", kind=kind, layer="")
        for i, kind in enumerate(kinds)
    )
    steps = np.arange(len(kinds["update_applied"]))
    points = Points(series, steps, steps / 10, np.array(list(kinds.values()), np.float64))
    return Trace("made", 0, about, facts or {}, ending, (points,))


def falling(n: int = N, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    """A loss that falls from 2 to 0.1."""
    rng = np.random.default_rng(seed)
    return (0.1 + 1.9 * np.exp(-np.arange(n) / 80)) * np.exp(rng.normal(0, noise, n))


def norms(n: int = N, seed: int = 1) -> np.ndarray:
    """Gradient norms around 1, as noisy as usual."""
    return np.exp(np.random.default_rng(seed).normal(0, 0.3, n))


def bad_at(values: np.ndarray, at: int) -> np.ndarray:
    """The same, not finite from an attempt on."""
    return np.where(np.arange(len(values)) >= at, np.nan, values)


def grown(at: int, doubling: float, n: int = N) -> np.ndarray:
    """Norms that double from an attempt on."""
    return norms(n) * 2.0 ** (np.maximum(0, np.arange(n) - at) / doubling)
