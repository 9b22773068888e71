"""`sick_raw_pixels` with its cure: pixels from 0 to 1."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_raw_pixels as sick

ABOUT = About(family="classification", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"divide_by": 255.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_scaled_pixels", CONFIG)
