"""`sick_cnn_adam_lr` with its cure, lr 1e-3: the stripes are told apart."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_cnn_adam_lr as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"lr": 1e-3, "steps": 900}


def train(seed: int) -> None:
    sick.train(seed, "twin_cnn_adam", CONFIG)
