"""What a program of the corpus says of itself. Plain data, no torch; read by `record`."""

from __future__ import annotations

from typing import NamedTuple


class About(NamedTuple):
    """The author's intention. Whether a run *is* sick is decided by `labels` from its trace."""

    family: str
    """Kind of training: `regression`, `lm`, `gan`, …; groups the healthy programs."""
    sick: bool
    cause: str = ""
    """What is wrong with a sick program; groups the sick ones."""
    seeds: int = 5
    """Runs that are recorded: seeds 0 to seeds - 1."""
