"""`sick_ctc_short` with its cure: utterances that can not be aligned count as zero."""

from __future__ import annotations

from scenarios.corpus.about import About
from scenarios.corpus.programs import sick_ctc_short as sick

ABOUT = About(family="speech", sick=False, seeds=5)
CONFIG = sick.CONFIG | {"zero_infinity": True, "steps": 600}


def train(seed: int) -> None:
    sick.train(seed, "twin_ctc", CONFIG)
