"""`sick_warm_restart_growing` with its cure: each cycle peaks lower than the last."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_warm_restart_growing as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"gamma_cycle": 0.7}


def train(seed: int) -> None:
    sick.train(seed, "twin_cyclic", CONFIG)
