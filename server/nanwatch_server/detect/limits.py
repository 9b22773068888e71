"""A person's `rules.toml`: other limits for some rules. Errors name the line. Pure."""

from __future__ import annotations

import math
import re
import tomllib
from typing import Any

from nanwatch_server.detect.registry import limits

_TABLE = re.compile(r"\s*\[\s*[\"']?([A-Za-z0-9_\-]+)[\"']?\s*\]")
_KEY = re.compile(r"\s*[\"']?([A-Za-z0-9_\-]+)[\"']?\s*=")
_PLACE = re.compile(r"\(at line (\d+), column \d+\)")


class LimitsError(ValueError):
    """The text is no set of limits; `line` counts from 1, 0 for the whole."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


def read_limits(text: str) -> dict[str, dict[str, Any]]:
    """Rule → limit → value, of those that are said. Raises `LimitsError`."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        raise LimitsError(int(place[1]) if place else 0, str(error)) from None
    known = limits()
    for rule, values in found.items():
        if not isinstance(values, dict):
            raise LimitsError(_line(text, "", rule), f"expected [{rule}] and its limits below it")
        if rule not in known:
            names = ", ".join(known)
            raise LimitsError(_line(text, rule), f"no rule is called {rule!r}; known: {names}")
        for key, value in values.items():
            if (why := _problem(rule, key, value, known[rule])) is not None:
                raise LimitsError(_line(text, rule, key), why)
    return found


def _problem(rule: str, key: str, value: Any, known: dict[str, Any]) -> str | None:
    if key not in known:
        return f"rule {rule} has no limit {key!r}; known: {', '.join(known)}"
    default = known[key]
    if isinstance(default, bool) or not isinstance(default, int | float):
        fits, wanted = type(value) is type(default), type(default).__name__
    else:
        fits = type(value) in (int, float) and math.isfinite(value)
        wanted = "a number"
    return None if fits else f"expected {wanted} for {rule}.{key}, like {default}; got {value!r}"


def _line(text: str, table: str, key: str = "") -> int:
    """Line of a table, or of a key in it; 0 if it is written in a way we do not look for."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _TABLE.match(line):
            current = found[1]
            if current == table and not key:
                return number
        elif key and current == table and (found := _KEY.match(line)) and found[1] == key:
            return number
    return 0
