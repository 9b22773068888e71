"""`sick_deep_sigmoid` with its cure, ReLU and LayerNorm: as many layers, and all of them learn."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_deep_sigmoid as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"activation": "ReLU", "lr": 0.01}


def train(seed: int) -> None:
    sick.train(seed, "twin_deep_relu", CONFIG)
