"""Wrapping methods of other libraries so that we hear of a call, and undoing it.

The library's own method runs exactly once, with its arguments, result and exceptions untouched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Patches:
    """Methods that were wrapped by one integration."""

    def __init__(self) -> None:
        self._wrapped: list[tuple[type, str, Any, Any]] = []
        self._awake = False

    def wrap(self, owner: type, name: str, heard: Callable[..., None]) -> None:
        """After each `owner.name(…)` that returned call `heard` with the same arguments."""
        self._awake = True
        if any((owner, name) == (known, method) for known, method, _, _ in self._wrapped):
            return
        original = getattr(owner, name, None)
        if original is None:
            return

        patches = self

        @functools.wraps(original)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            if patches._awake:
                heard(self, *args, **kwargs)
            return result

        setattr(owner, name, wrapper)
        self._wrapped.append((owner, name, original, wrapper))

    def undo(self) -> None:
        """Put the library's methods back; where someone has wrapped ours since, it sleeps."""
        self._awake = False
        for owner, name, original, wrapper in self._wrapped:
            if getattr(owner, name, None) is wrapper:
                setattr(owner, name, original)
        self._wrapped.clear()
