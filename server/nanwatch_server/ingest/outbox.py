"""From any thread to the event loop and on to one client. Used by `connection` and `gateway`.

A commit acknowledges the batches of many connections: the loop is woken once for all of them, and
what one client has not been sent yet is joined, as acknowledgements are cumulative.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from nanwatch.contract.frames import Ack, ServerFrame
from nanwatch.contract.limits import CLOSE_TOO_MANY

OUTBOX_MAX = 1024

Item = ServerFrame | tuple[int, str]
"""A frame, or code and reason of the close."""


class Postbox:
    """Calls into one event loop. `send` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._woken = False

    def send(self, call: Callable[[Any], None], value: Any) -> None:
        """`call(value)` in the loop, in the order of sending."""
        self._calls.append((call, value))
        if self._woken:  # whoever empties the box does so after saying that it is not
            return
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._empty)
        except RuntimeError:
            pass  # the loop is closed: the server is stopping

    def _empty(self) -> None:
        self._woken = False
        while self._calls:
            call, value = self._calls.popleft()
            call(value)


class Outbox:
    """What one client is still to be sent. In the event loop only."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Queue it; a client that does not read is told to come back and resume."""
        items = self._items
        if items and isinstance(item, Ack):
            last = items[-1]
            if isinstance(last, Ack) and last.lane == item.lane:
                items[-1] = item
                return
        if len(items) < OUTBOX_MAX:
            items.append(item)
        elif len(items) == OUTBOX_MAX:
            items.append((CLOSE_TOO_MANY, "acks are not read"))
        self._wake.set()

    async def get(self) -> Item:
        """The next one."""
        while not self._items:
            self._wake.clear()
            await self._wake.wait()
        return self._items.popleft()

    def take(self) -> Item | None:
        """The next one, if there is any."""
        return self._items.popleft() if self._items else None
