"""`sick_init_large` with its cure: He initialisation."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_init_large as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"init_std": 0.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_init_he", CONFIG)
