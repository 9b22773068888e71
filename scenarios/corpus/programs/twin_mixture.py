"""`sick_mixture_underflow` with its cure: log-sum-exp. The outliers are spikes that heal."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_mixture_underflow as sick

ABOUT = About(family="density", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"in_logs": True}


def train(seed: int) -> None:
    sick.train(seed, "twin_mixture", CONFIG)
