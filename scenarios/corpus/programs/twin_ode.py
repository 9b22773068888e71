"""`sick_ode_long_horizon` with its cure: a short horizon, a smaller rate and clipping at 1.0."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_ode_long_horizon as sick

ABOUT = About(family="ode", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"horizon": 6, "max_norm": 1.0, "lr": 1e-3, "steps": 700}


def train(seed: int) -> None:
    sick.train(seed, "twin_ode", CONFIG)
