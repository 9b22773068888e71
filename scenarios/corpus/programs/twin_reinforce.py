"""`sick_reinforce_entropy` with its cure: a baseline, a smaller learning rate and an entropy bonus
find the good arms.
"""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_reinforce_entropy as sick

ABOUT = About(family="rl-on-policy", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"lr": 3e-3, "baseline": True, "entropy_bonus": 0.02}


def train(seed: int) -> None:
    sick.train(seed, "twin_reinforce", CONFIG)
