"""`sick_transformer_warmup` with its cure: a sane peak, a short warm-up and clipping."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_transformer_warmup as sick

ABOUT = About(family="lm", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"lr": 2e-3, "warmup": 100, "max_norm": 1.0, "steps": 600}


def train(seed: int) -> None:
    sick.train(seed, "twin_brackets", CONFIG)
