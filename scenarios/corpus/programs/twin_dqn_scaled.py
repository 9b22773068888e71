"""`sick_dqn_reward_scale` with its cure: rewards of about -2 for a fall, and the stick stays up."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_dqn_reward_scale as sick

ABOUT = About(family="rl-off-policy", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"reward_scale": 1e-5}


def train(seed: int) -> None:
    sick.train(seed, "twin_dqn_scaled", CONFIG)
