"""`sick_ppo_epochs` with its cure: clipped ratios, three epochs, a tenth of the rate."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_ppo_epochs as sick

ABOUT = About(family="rl-on-policy", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"clip_range": 0.2, "epochs": 4, "lr": 5e-3, "entropy_bonus": 0.01}
CONFIG |= {"batch_size": 64, "updates": 200}


def train(seed: int) -> None:
    sick.train(seed, "twin_ppo", CONFIG)
