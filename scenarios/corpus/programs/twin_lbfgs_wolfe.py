"""`sick_rosenbrock_lbfgs` with its cure: all points at once and a line search."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_rosenbrock_lbfgs as sick

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"line_search_fn": "strong_wolfe", "batch_size": 128}


def train(seed: int) -> None:
    sick.train(seed, "twin_lbfgs_wolfe", CONFIG)
