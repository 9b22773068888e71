"""`sick_softmax_logits` with its cure: label smoothing of the right sign and a z-loss."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_softmax_logits as sick

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"smoothing": 0.05, "z_loss": 1e-4, "lr": 0.01}


def train(seed: int) -> None:
    sick.train(seed, "twin_bigram", CONFIG)
