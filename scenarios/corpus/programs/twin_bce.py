"""`sick_log_zero_bce` with its cure: the library's loss on the logits."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_log_zero_bce as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"by_hand": False}


def train(seed: int) -> None:
    sick.train(seed, "twin_bce", CONFIG)
