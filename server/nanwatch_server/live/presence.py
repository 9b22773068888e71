"""Who is connected now and what the last heartbeats said; in memory only. Thread-safe."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from nanwatch.contract.frames import Beat


@dataclass(frozen=True, slots=True)
class Presence:
    """Signs of life of one run, by the server's clock."""

    connections: int = 0
    last_seen_at: float = 0.0
    last_step: int = -1
    last_step_at: float = 0.0
    queued: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    overhead: float = 0.0


class PresenceBook:
    """One entry per run seen since the server started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Presence] = {}
        self._version = 0

    def of(self, run_id: str) -> Presence:
        """What is known of the run."""
        return self._runs.get(run_id, Presence())

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    def _change(self, run_id: str, **changes) -> None:
        self._runs[run_id] = replace(self.of(run_id), **changes)
        self._version += 1

    def connected(self, run_id: str, now: float) -> None:
        """A rank of the run has a connection."""
        with self._lock:
            count = self.of(run_id).connections + 1
            self._change(run_id, connections=count, last_seen_at=now)

    def gone(self, run_id: str, now: float) -> None:
        """That connection has ended."""
        with self._lock:
            count = max(self.of(run_id).connections - 1, 0)
            self._change(run_id, connections=count, last_seen_at=now)

    def stepped(self, run_id: str, step: int, now: float) -> None:
        """Data or a heartbeat of this step has arrived."""
        with self._lock:
            known = self.of(run_id)
            if step > known.last_step:
                self._change(run_id, last_step=step, last_step_at=now, last_seen_at=now)
            else:
                self._change(run_id, last_seen_at=now)

    def beat(self, run_id: str, beat: Beat, now: float) -> None:
        """A heartbeat."""
        self.stepped(run_id, beat.step, now)
        with self._lock:
            self._change(
                run_id, queued=beat.queued, dropped=dict(beat.dropped), overhead=beat.overhead
            )
