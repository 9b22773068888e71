"""`sick_frozen_copy` with its cure: the optimizer is made after the model was restored."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_frozen_copy as sick

ABOUT = About(family="autoencoder", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"optimizer_last": True}


def train(seed: int) -> None:
    sick.train(seed, "twin_vae", CONFIG)
