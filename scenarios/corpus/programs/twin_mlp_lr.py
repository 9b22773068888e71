"""`sick_mlp_lr_jump` with its cure: the learning rate is a tenth, and the surface is learned."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_mlp_lr_jump as sick

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"lr": 0.02}


def train(seed: int) -> None:
    sick.train(seed, "twin_mlp_lr", CONFIG)
