"""`sick_bn_domains` with its cure: statistics that follow the domain within ten batches."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_bn_domains as sick

ABOUT = About(family="continual", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"bn_momentum": 0.1}


def train(seed: int) -> None:
    sick.train(seed, "twin_bn_domains", CONFIG)
