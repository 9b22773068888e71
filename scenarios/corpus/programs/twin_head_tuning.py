"""`sick_frozen_detach` with its cure: the optimizer owns the head; the backbone stays frozen."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_frozen_detach as sick

ABOUT = About(family="fine-tuning", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"tuned": "head"}


def train(seed: int) -> None:
    sick.train(seed, "twin_head_tuning", CONFIG)
