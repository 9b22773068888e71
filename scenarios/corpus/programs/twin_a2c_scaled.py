"""`sick_a2c_reward_scale` with its cure: rewards of about one, and clipping at 0.5."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_a2c_reward_scale as sick

ABOUT = About(family="rl-on-policy", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"reward_scale": 2.0, "max_norm": 0.5, "lr": 3e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_a2c_scaled", CONFIG)
