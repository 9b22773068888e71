"""`sick_rollout_clip` with its cure: the state is reset to the truth every six steps."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_rollout_clip as sick

ABOUT = About(family="rollout", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"bptt_window": 6, "lr": 3e-3}


def train(seed: int) -> None:
    sick.train(seed, "twin_rollout_truncated", CONFIG)
