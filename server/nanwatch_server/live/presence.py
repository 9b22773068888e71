"""Who is connected now and what the last heartbeats said; in memory only. Thread-safe."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from nanwatch.contract.frames import Beat


@dataclass(frozen=True, slots=True)
class RankPresence:
    """Signs of life of one rank."""

    connections: int = 0
    last_seen_at: float = 0.0
    last_step: int = -1


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
    ranks: dict[int, RankPresence] = field(default_factory=dict)
    """Never changed in place."""


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

    def _rank(self, run_id: str, rank: int, now: float, step: int = -1, connections: int = 0):
        """The run's ranks with this one changed."""
        ranks = self.of(run_id).ranks
        known = ranks.get(rank, RankPresence())
        changed = RankPresence(
            max(known.connections + connections, 0), now, max(known.last_step, step)
        )
        return ranks | {rank: changed}

    def connected(self, run_id: str, now: float, rank: int = 0) -> None:
        """A rank of the run has a connection."""
        with self._lock:
            count = self.of(run_id).connections + 1
            ranks = self._rank(run_id, rank, now, connections=1)
            self._change(run_id, connections=count, last_seen_at=now, ranks=ranks)

    def gone(self, run_id: str, now: float, rank: int = 0) -> None:
        """That connection has ended."""
        with self._lock:
            count = max(self.of(run_id).connections - 1, 0)
            ranks = self._rank(run_id, rank, now, connections=-1)
            self._change(run_id, connections=count, last_seen_at=now, ranks=ranks)

    def stepped(self, run_id: str, step: int, now: float, rank: int = 0) -> None:
        """Data or a heartbeat of this step has arrived."""
        with self._lock:
            known, ranks = self.of(run_id), self._rank(run_id, rank, now, step)
            if step > known.last_step:
                self._change(
                    run_id, last_step=step, last_step_at=now, last_seen_at=now, ranks=ranks
                )
            else:
                self._change(run_id, last_seen_at=now, ranks=ranks)

    def beat(self, run_id: str, beat: Beat, now: float, rank: int = 0) -> None:
        """A heartbeat. What waits and what it costs is shown of rank 0."""
        self.stepped(run_id, beat.step, now, rank)
        if rank != 0:
            return
        with self._lock:
            self._change(
                run_id, queued=beat.queued, dropped=dict(beat.dropped), overhead=beat.overhead
            )
