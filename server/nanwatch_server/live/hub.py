"""Brings frames from any thread to the browsers that watch a topic. Bounded: a slow browser loses
old frames and is told so; it never slows the server or another browser.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

from nanwatch_server.live.frames import FrameWriter, plain

FRAMES_MAX = 256
BYTES_MAX = 1 << 20
PENDING_POINTS_MAX = 1 << 18
"""Points of one run waiting for the next flush."""

WALL = "wall"


class Subscriber:
    """One browser. `get` in its event loop; everything else under the hub's lock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self.topics: set[str] = set()

    def offer(self, frame: bytes) -> None:
        """Queue a frame; the oldest go if there are too many. Safe from any thread."""
        with self._lock:
            self._frames.append(frame)
            self._bytes += len(frame)
            while len(self._frames) > 1 and (
                len(self._frames) > FRAMES_MAX or self._bytes > BYTES_MAX
            ):
                self._bytes -= len(self._frames.popleft())
                self._dropped += 1
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:
            pass  # the loop is closed: the server is stopping

    async def get(self) -> bytes:
        """The next frame; a `lagged` frame first if some were lost."""
        while True:
            with self._lock:
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    return plain("lagged", dropped=dropped)
                if self._frames:
                    frame = self._frames.popleft()
                    self._bytes -= len(frame)
                    return frame
                self._wake.clear()
            await self._wake.wait()


class Hub:
    """Topics: `wall`, and the id of a run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, set[Subscriber]] = {}
        self._pending: dict[str, dict[tuple[int, ...], list[tuple]]] = {}
        self._pending_points: dict[str, int] = {}

    def watch(self, subscriber: Subscriber, topic: str) -> None:
        """From now on the subscriber gets the frames of the topic."""
        with self._lock:
            subscriber.topics.add(topic)
            self._topics.setdefault(topic, set()).add(subscriber)

    def unwatch(self, subscriber: Subscriber, topic: str) -> None:
        """No more frames of the topic."""
        with self._lock:
            subscriber.topics.discard(topic)
            watchers = self._topics.get(topic, set())
            watchers.discard(subscriber)
            if not watchers:
                self._topics.pop(topic, None)
                self._pending.pop(topic, None)
                self._pending_points.pop(topic, None)

    def leave(self, subscriber: Subscriber) -> None:
        """The browser has gone."""
        for topic in list(subscriber.topics):
            self.unwatch(subscriber, topic)

    def watched(self) -> set[str]:
        """Topics somebody watches."""
        with self._lock:
            return set(self._topics)

    def publish(self, topic: str, frame: bytes) -> None:
        """Send a frame to all who watch the topic. Safe from any thread."""
        with self._lock:
            watchers = list(self._topics.get(topic, ()))
        for subscriber in watchers:
            subscriber.offer(frame)

    def points(
        self,
        run_id: str,
        series: Sequence[int],
        steps: np.ndarray,
        times: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Points that go out with the next `flush`, if somebody watches the run."""
        with self._lock:
            if run_id not in self._topics:
                return
            held = self._pending_points.get(run_id, 0) + values.size
            if held > PENDING_POINTS_MAX and self._pending.get(run_id):
                self._pending[run_id].clear()
                held = values.size
                lost = plain("lagged", dropped=1)
                for subscriber in self._topics[run_id]:
                    subscriber.offer(lost)
            self._pending_points[run_id] = held
            tables = self._pending.setdefault(run_id, {})
            tables.setdefault(tuple(series), []).append((steps, times, values))

    def flush(self) -> None:
        """Send the waiting points, one frame a run."""
        with self._lock:
            pending, self._pending, self._pending_points = self._pending, {}, {}
        for run_id, tables in pending.items():
            if tables:
                self.publish(run_id, points_frame(run_id, tables))


def points_frame(run_id: str, tables: dict[tuple[int, ...], list[tuple]]) -> bytes:
    """The `points` frame: tables of the same series are joined."""
    frame = FrameWriter("points")
    entries = []
    for series, parts in tables.items():
        steps = np.concatenate([part[0] for part in parts])
        entries.append(
            {
                "series": list(series),
                "n": len(steps),
                "steps": frame.add(steps),
                "times": frame.add(np.concatenate([part[1] for part in parts])),
                "values": frame.add(np.concatenate([part[2] for part in parts], axis=1)),
            }
        )
    return frame.finish(run=run_id, tables=entries)
