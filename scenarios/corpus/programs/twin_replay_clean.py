"""`sick_replay_glitch` with its cure: samples out of range are neither learned nor kept."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_replay_glitch as sick

ABOUT = About(family="continual", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"largest": 6.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_replay_clean", CONFIG)
