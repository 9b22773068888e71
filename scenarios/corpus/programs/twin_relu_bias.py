"""`sick_dead_relu_bias` with its cure: biases start at zero."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_dead_relu_bias as sick

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"bias": 0.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_relu_bias", CONFIG)
