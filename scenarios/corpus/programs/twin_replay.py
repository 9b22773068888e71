"""`sick_replay_logits` with its cure: logits are stored once and replayed as they are."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_replay_logits as sick

ABOUT = About(family="continual", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"sharpen": 1.0, "refresh": False}


def train(seed: int) -> None:
    sick.train(seed, "twin_replay", CONFIG)
