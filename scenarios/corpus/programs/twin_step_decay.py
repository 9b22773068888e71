"""`sick_dead_relu_lr` with its cure: the rate falls to a tenth at the milestone."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_dead_relu_lr as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"decay": 0.1}


def train(seed: int) -> None:
    sick.train(seed, "twin_step_decay", CONFIG)
