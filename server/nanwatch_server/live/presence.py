"""Who is connected now and what the last heartbeats said; in memory only. Thread-safe."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

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


class _Rank:
    """What `RankPresence` is made of."""

    __slots__ = ("connections", "last_seen_at", "last_step")

    def __init__(self) -> None:
        self.connections, self.last_seen_at, self.last_step = 0, 0.0, -1


class _Entry:
    """What `Presence` is made of: changed with every batch, looked at once a second."""

    __slots__ = ("beat", "connections", "last_seen_at", "last_step", "last_step_at", "ranks")

    def __init__(self) -> None:
        self.connections = 0
        self.last_seen_at, self.last_step, self.last_step_at = 0.0, -1, 0.0
        self.beat: Beat | None = None
        self.ranks: dict[int, _Rank] = {}

    def seen(self, rank: int, now: float) -> _Rank:
        """A sign of life of a rank."""
        self.last_seen_at = now
        known = self.ranks.get(rank)
        if known is None:
            known = self.ranks[rank] = _Rank()
        known.last_seen_at = now
        return known


class PresenceBook:
    """One entry per run seen since the server started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, _Entry] = {}
        self._version = 0

    def of(self, run_id: str) -> Presence:
        """What is known of the run."""
        with self._lock:
            one = self._runs.get(run_id)
            if one is None:
                return Presence()
            beat = one.beat
            return Presence(
                connections=one.connections,
                last_seen_at=one.last_seen_at,
                last_step=one.last_step,
                last_step_at=one.last_step_at,
                queued=beat.queued if beat else 0,
                dropped=dict(beat.dropped) if beat else {},
                overhead=beat.overhead if beat else 0.0,
                ranks={
                    rank: RankPresence(known.connections, known.last_seen_at, known.last_step)
                    for rank, known in one.ranks.items()
                },
            )

    def connected_runs(self) -> list[str]:
        """Runs that have a connection now."""
        with self._lock:
            return [run_id for run_id, one in self._runs.items() if one.connections]

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    def _of(self, run_id: str) -> _Entry:
        self._version += 1
        one = self._runs.get(run_id)
        if one is None:
            one = self._runs[run_id] = _Entry()
        return one

    def connected(self, run_id: str, now: float, rank: int = 0) -> None:
        """A rank of the run has a connection."""
        with self._lock:
            one = self._of(run_id)
            one.connections += 1
            one.seen(rank, now).connections += 1

    def gone(self, run_id: str, now: float, rank: int = 0) -> None:
        """That connection has ended."""
        with self._lock:
            one = self._of(run_id)
            one.connections = max(one.connections - 1, 0)
            known = one.seen(rank, now)
            known.connections = max(known.connections - 1, 0)

    def stepped(self, run_id: str, step: int, now: float, rank: int = 0) -> None:
        """Data or a heartbeat of this step has arrived."""
        with self._lock:
            one = self._of(run_id)
            known = one.seen(rank, now)
            known.last_step = max(known.last_step, step)
            if step > one.last_step:
                one.last_step, one.last_step_at = step, now

    def beat(self, run_id: str, beat: Beat, now: float, rank: int = 0) -> None:
        """A heartbeat. What waits and what it costs is shown of rank 0."""
        self.stepped(run_id, beat.step, now, rank)
        if rank == 0:
            with self._lock:
                self._of(run_id).beat = beat
