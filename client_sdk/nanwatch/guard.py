"""The one internal-error guard: nothing of ours raises into the training.

Every entry from the user's process into the SDK passes `guarded`. It catches `Exception` only (a
Ctrl-C is never swallowed), logs each kind of error once, and counts all of them so that the page
can show them. Tests set `Guard.reraise`, so that a swallowed bug fails them.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

logger = logging.getLogger("nanwatch")

T = TypeVar("T")


class Guard:
    """Counts internal errors by kind. One per process."""

    reraise = False
    """Set by the tests: raise instead of swallowing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.times: dict[str, float] = {}
        self.changed: set[str] = set()

    def note(self, kind: str, error: BaseException) -> None:
        """Count an internal error; the first of its kind is logged with its traceback."""
        key = f"{kind}:{type(error).__name__}"
        try:
            text = f"{type(error).__name__}: {error}"[:2000]
        except Exception:
            text = type(error).__name__  # a user's exception whose own text fails
        with self._lock:
            first = key not in self.counts
            self.counts[key] = self.counts.get(key, 0) + 1
            self.texts[key] = text
            self.times[key] = time.time()
            self.changed.add(key)
        if first:
            try:
                logger.warning(
                    "nanwatch: internal error in %s, your training goes on (told once per kind): "
                    "%s",
                    kind,
                    text,
                )
                logger.debug("%s", traceback.format_exc())
            except Exception:
                pass  # a handler or filter of the user's that fails
        if Guard.reraise:
            raise error

    def take_changed(self) -> list[tuple[str, int, str, float]]:
        """(kind, count, text, time) of the errors counted since the last call."""
        with self._lock:
            changed, self.changed = self.changed, set()
            return [(k, self.counts[k], self.texts[k], self.times[k]) for k in sorted(changed)]

    def clear(self) -> None:
        """Forget everything (after a fork, in tests)."""
        self._lock = threading.Lock()
        self.counts, self.texts, self.times, self.changed = {}, {}, {}, set()


GUARD = Guard()


def guarded(kind: str, call: Callable[..., T], *args: Any) -> T | None:
    """`call(*args)`, or None if it failed inside the SDK."""
    try:
        return call(*args)
    except Exception as error:
        GUARD.note(kind, error)
        return None
