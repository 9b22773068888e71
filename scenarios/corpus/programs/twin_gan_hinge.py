"""`sick_gan_hinge` with its cure: spectral normalisation and a tenth of the rate."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_gan_hinge as sick

ABOUT = About(family="gan", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"spectral": True, "lr": 5e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_gan_hinge", CONFIG)
