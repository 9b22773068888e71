"""`sick_gan_collapse` with its cure: the non-saturating loss, both learn at the same rate."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_gan_collapse as sick

ABOUT = About(family="gan", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"saturating": False, "g_lr": 1e-3, "d_lr": 1e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_gan", CONFIG)
