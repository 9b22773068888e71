"""`sick_chaotic_rnn_clip` with its cure: the recurrent weights start orthogonal."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_chaotic_rnn_clip as sick

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = sick.CONFIG | {"gain": 0.0}


def train(seed: int) -> None:
    sick.train(seed, "twin_rnn_orthogonal", CONFIG)
