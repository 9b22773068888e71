"""What one named cause is: an entry of the table in `syndromes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nanwatch_server.diagnose.case import Case
from nanwatch_server.domain.models import Severity, Suggestion

CRITICAL = Severity.CRITICAL


class Syndrome(NamedTuple):
    """One named cause."""

    name: str
    score: Callable[[Case], float]
    """0: not this; else confidence before evidence for and against is weighed."""
    leads: tuple[str, ...]
    """Rules whose finding gives the title, the first that fired."""
    why: str
    signs: Callable[[Case], tuple[list[str], list[str]]]
    """Evidence for and against beyond the findings themselves."""
    tries: Callable[[Case], list[Suggestion]]
