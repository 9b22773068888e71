"""How the configuration names a setting, so that what is copied fits it. Used by the remedies."""

from __future__ import annotations

from nanwatch_server.diagnose.case import Case
from nanwatch_server.domain.facts import leaf, number, plain


def fact_key(case: Case, names: tuple[str, ...]) -> str | None:
    """The name under which the configuration knows one of `names`."""
    for name in names:
        for key in case.facts:
            if plain(key) == name.lower():
                return leaf(key)
    return None


def flag(key: str, value: float) -> str:
    """A setting as one gives it on a command line."""
    return f"--{key.replace('_', '-')} {number(value)}"
