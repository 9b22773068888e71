"""The live socket: what browsers watch, and the two clocks that feed it (points, wall)."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from nanwatch.contract.limits import CLOSE_PROTOCOL, LIVE_PATH, is_run_id
from nanwatch_server.api.views import Views
from nanwatch_server.auth.gate import principal_of, requires
from nanwatch_server.domain.ports import Store
from nanwatch_server.live.frames import plain
from nanwatch_server.live.hub import WALL, Hub, Subscriber

_log = structlog.get_logger()

router = APIRouter()

POINTS_S = 0.1
WALL_S = 1.0
TOPICS_MAX = 64


@router.websocket(LIVE_PATH)
@requires("view")
async def live(socket: WebSocket) -> None:
    """One browser."""
    state = socket.app.state
    await socket.accept()
    subscriber = Subscriber()
    role = principal_of(socket.scope).role
    subscriber.offer(plain("hello", version=state.version, time=state.clock(), role=role))
    sender = asyncio.create_task(_send(socket, subscriber))
    try:
        while True:
            text = await socket.receive_text()
            await state.live.asked(subscriber, text)
    except (WebSocketDisconnect, KeyError):
        pass
    except ValueError as error:
        with suppress(RuntimeError):
            await socket.close(CLOSE_PROTOCOL, str(error)[:120])
    finally:
        sender.cancel()
        state.hub.leave(subscriber)


async def _send(socket: WebSocket, subscriber: Subscriber) -> None:
    with suppress(RuntimeError, WebSocketDisconnect):
        while True:
            await socket.send_bytes(await subscriber.get())


class Live:
    """Snapshots for watchers, and the tasks that send points and the wall."""

    def __init__(self, hub: Hub, views: Views, store: Store) -> None:
        self._hub, self._views, self._store = hub, views, store
        self._changed: set[str] = set()
        self._wall_sign = 0
        self._statuses: dict[str, str] = {}
        self._tasks: list[asyncio.Task] = []

    def start(self) -> None:
        """Inside the event loop."""
        self._tasks = [
            asyncio.create_task(self._every(POINTS_S, self._flush)),
            asyncio.create_task(self._every(WALL_S, self._wall)),
        ]

    def stop(self) -> None:
        """No more frames."""
        for task in self._tasks:
            task.cancel()

    def changed(self, run_id: str) -> None:
        """Status, series or heartbeat of the run changed: watchers get it with the next beat."""
        self._changed.add(run_id)

    async def asked(self, subscriber: Subscriber, text: str) -> None:
        """A message of the browser. Raises `ValueError` if it is none of the protocol."""
        try:
            message = json.loads(text)
        except RecursionError as error:
            raise ValueError("expected a message of the protocol") from error
        kind = message.get("type") if isinstance(message, dict) else None
        topic = _topic(message) if kind in ("watch", "unwatch") else None
        if topic is None:
            raise ValueError("expected watch or unwatch with topic wall or run")
        if kind == "unwatch":
            self._hub.unwatch(subscriber, topic)
            return
        if len(subscriber.topics) >= TOPICS_MAX:
            raise ValueError(f"expected at most {TOPICS_MAX} topics at a time")
        self._hub.watch(subscriber, topic)
        frame = await asyncio.to_thread(self._snapshot, topic)
        if frame is not None:
            subscriber.offer(frame)

    def _snapshot(self, topic: str) -> bytes | None:
        if topic == WALL:
            return self._views.wall(fresh=False)[0]
        run = self._store.run(topic)
        return None if run is None else plain("run", run=self._views.detail(run))

    async def _every(self, seconds: float, do: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await do()
            except Exception:
                _log.exception("the live socket failed once")

    async def _flush(self) -> None:
        self._hub.flush()

    async def _wall(self) -> None:
        changed, self._changed = self._changed, set()
        watched = self._hub.watched()
        for run_id in watched - {WALL}:
            # A status also changes by silence, which nobody reports.
            status = await asyncio.to_thread(self._views.status, run_id)
            if run_id in changed or self._statuses.get(run_id, status) != status:
                frame = await asyncio.to_thread(self._snapshot, run_id)
                if frame is not None:
                    self._hub.publish(run_id, frame)
            self._statuses[run_id] = status
        self._statuses = {run_id: self._statuses[run_id] for run_id in watched - {WALL}}
        if WALL in watched:
            frame, sign = await asyncio.to_thread(self._views.wall)
            if sign != self._wall_sign:
                self._wall_sign = sign
                self._hub.publish(WALL, frame)


def _topic(message: dict[str, Any]) -> str | None:
    if message.get("topic") == "wall":
        return WALL
    run = message.get("run")
    return (
        run if message.get("topic") == "run" and isinstance(run, str) and is_run_id(run) else None
    )
