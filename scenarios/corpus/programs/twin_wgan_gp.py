"""`sick_wgan_no_penalty` with its cure, a gradient penalty of 10."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_wgan_no_penalty as sick

ABOUT = About(family="gan", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"penalty": 10.0, "c_lr": 1e-3, "g_lr": 1e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_wgan_gp", CONFIG)
