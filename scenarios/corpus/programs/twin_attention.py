"""`sick_attention_logits` with its cure, a far smaller learning rate: it learns to copy."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_attention_logits as sick

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"lr": 3e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_attention", CONFIG)
