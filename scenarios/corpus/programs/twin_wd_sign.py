"""`sick_wd_sign` with its cure: the regulariser has the right sign (and a usual size)."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_wd_sign as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"l2": 1e-4}


def train(seed: int) -> None:
    sick.train(seed, "twin_wd_sign", CONFIG)
