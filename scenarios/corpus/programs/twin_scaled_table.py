"""`sick_unscaled_table` with its cure: standardised columns."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_unscaled_table as sick

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"standardise": True}


def train(seed: int) -> None:
    sick.train(seed, "twin_scaled_table", CONFIG)
