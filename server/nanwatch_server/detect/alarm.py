"""When a rule speaks: first fire, each rise, a reminder every 1000 records, and the all-clear.

Rules compute a severity per record; this state machine turns it into few events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.block import F64
from nanwatch_server.detect.state import Stateful

REPEAT = 1000
"""Records between reminders (detection reference, alert hygiene)."""
WARNING = 2
CLEAR = 200
"""Records without the condition before the all-clear (design: at least 200 steps)."""
KEEP = -1
"""Severity of a record that does not fire but keeps a firing alarm up (hysteresis)."""


class Event(NamedTuple):
    """Something to say about record `at` of the block."""

    at: int
    what: Literal["fire", "rise", "repeat", "clear"]
    severity: int
    hits: int = 0
    """Records that fired since the alarm went up."""
    fresh: bool = False
    """The trouble begins here: a fire, or a notice that became an alarm."""


def unknown(values: F64) -> NDArray[np.int8]:
    """No severity, except that values that are not finite keep a firing alarm up.

    They say nothing of the condition, so they must not count as its absence.
    """
    return np.where(np.isfinite(values), 0, KEEP).astype(np.int8)


def severities_of(values: F64, levels: Mapping[int, int]) -> NDArray[np.int8]:
    """`unknown`, with the severities that were found, by position."""
    severities = unknown(values)
    for at, level in levels.items():
        severities[at] = level
    return severities


class Alarm(Stateful):
    """State of one condition of one scope."""

    STATE = ("seen", "level", "hits", "last_hit", "last_emit", "onset")

    def __init__(self) -> None:
        self.seen = 0
        self.level = 0
        self.hits = 0
        self.last_hit = -1
        self.last_emit = -1
        self.clear = CLEAR
        """Records without the condition before the all-clear. Of the rule, not of the state."""
        self.onset = -1
        """Step at which the trouble began, set by the rule on `fire`."""

    def may_speak(self, severity: int, records: int) -> bool:
        """False if a record of this severity cannot be an event of the next `records`: words for it
        are not needed."""
        end = self.seen + records
        over = end - self.last_hit > self.clear  # it may have cleared by then and fire anew
        reminder = self.level >= WARNING and end - self.last_emit >= REPEAT
        return severity > self.level or over or reminder

    def rests(self, records: int, severities: Iterable[int]) -> bool:
        """True if the alarm is down and these severities, of the next `records` records, do not
        raise it: they are booked, and `sweep` has nothing to add."""
        if self.level or any(severity > 0 for severity in severities):
            return False
        self.seen += records
        return True

    def sweep(self, severities: NDArray[np.int8]) -> list[Event]:
        """Events of these consecutive records, in order."""
        base, n = self.seen, len(severities)
        self.seen += n
        if not self.level and not np.count_nonzero(severities > 0):
            return []
        events: list[Event] = []
        for at in np.flatnonzero(severities).tolist():
            self._clear_before(base + at, base, events)
            self._hit(int(severities[at]), base + at, at, events)
        self._clear_before(base + n, base, events)
        return events

    def _hit(self, severity: int, record: int, at: int, events: list[Event]) -> None:
        if severity == KEEP:
            if self.level:
                self.last_hit = record
            return
        if severity < WARNING <= self.level:
            return  # a notice must not keep an alarm up
        self.last_hit = record
        self.hits = self.hits + 1 if self.level else 1
        if severity > self.level:
            what = "rise" if self.level else "fire"
            fresh = self.level < WARNING
            self.level, self.last_emit = severity, record
            events.append(Event(at, what, severity, self.hits, fresh))
        elif self.level >= WARNING and record - self.last_emit >= REPEAT:
            self.last_emit = record
            events.append(Event(at, "repeat", self.level, self.hits))

    def _clear_before(self, record: int, base: int, events: list[Event]) -> None:
        due = self.last_hit + self.clear
        if self.level and due < record:
            # `due` cannot lie before this block: an earlier sweep would have cleared it
            if self.level >= WARNING:  # the end of a notice is not worth a line
                events.append(Event(due - base, "clear", self.level))
            self.level = 0
