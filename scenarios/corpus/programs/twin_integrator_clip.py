"""`sick_integrator_noclip` with its cure, clipping at 1.0: the same network learns to add."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_integrator_noclip as sick

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"max_norm": 1.0, "lr": 3e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_integrator_clip", CONFIG)
