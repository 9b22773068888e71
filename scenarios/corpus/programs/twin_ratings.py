"""`sick_ratings_sgd` with its cure: a tenth of the rate."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_ratings_sgd as sick

ABOUT = About(family="recommender", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"lr": 1.0, "steps": 900}


def train(seed: int) -> None:
    sick.train(seed, "twin_ratings", CONFIG)
