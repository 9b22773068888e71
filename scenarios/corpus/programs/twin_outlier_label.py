"""`sick_outlier_label` with its cure: clipping. The spikes of the loss are as large, and heal."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_outlier_label as sick

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"max_norm": 1.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_outlier_label", CONFIG)
