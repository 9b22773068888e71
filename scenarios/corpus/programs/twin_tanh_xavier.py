"""`sick_tiny_init` with its cure: Xavier's gain for tanh."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_tiny_init as sick

ABOUT = About(family="regression", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"init_std": 0.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_tanh_xavier", CONFIG)
