"""`sick_tied_embedding` with its cure: small initial embeddings."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_tied_embedding as sick

ABOUT = About(family="lm", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"init_std": 0.05, "lr": 3e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_tied_embedding", CONFIG)
