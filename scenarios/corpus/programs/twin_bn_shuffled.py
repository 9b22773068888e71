"""`sick_bn_tiny_batch` with its cure: shuffled batches of 32 and BatchNorm's usual momentum."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_bn_tiny_batch as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"batch_size": 32, "bn_momentum": 0.1, "shuffled": True}


def train(seed: int) -> None:
    sick.train(seed, "twin_bn_shuffled", CONFIG)
