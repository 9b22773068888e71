"""`sick_onecycle_peak` with its cure, a twentieth of the peak: the same schedule trains well."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_onecycle_peak as sick

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"max_lr": 0.02}


def train(seed: int) -> None:
    sick.train(seed, "twin_onecycle", CONFIG)
