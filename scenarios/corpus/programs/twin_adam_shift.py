"""`sick_adam_shift` with its cure: beta2 0.95 and clipping; the new region costs a spike that
heals.
"""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_adam_shift as sick

ABOUT = About(family="curriculum", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"beta2": 0.95, "max_norm": 0.5, "lr": 3e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_adam_shift", CONFIG)
