"""`sick_offline_ddpg` with its cure: the actor stays near the data, the target network is slow."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_offline_ddpg as sick

ABOUT = About(family="rl-off-policy", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"tau": 0.02, "cloning": 5.0, "lr": 1e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_offline_ddpg", CONFIG)
