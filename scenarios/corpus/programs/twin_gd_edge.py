"""`sick_gd_edge` with its cure: a rate below the edge of stability."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_gd_edge as sick

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"over": 0.8, "steps": 700}


def train(seed: int) -> None:
    sick.train(seed, "twin_gd_edge", CONFIG)
