"""Notices that nobody uses the server: no socket open and no request for a while. Used by `app`.

Pure ASGI, outermost: a training or a page that is connected counts as use, `/healthz` does not
(a run that looks for a server asks there every few seconds).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK_MOST_S = 60.0


class Idle:
    """ASGI app around `app` that remembers when it was last used."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._open = 0
        self._used_at = time.monotonic()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand on, and count what is open."""
        if scope["type"] == "lifespan" or scope.get("path") == "/healthz":
            await self._app(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self._used_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds without use; 0 while anything is open."""
        return 0.0 if self._open else time.monotonic() - self._used_at

    async def watch(self, limit_s: float, data_dir: Path, end: Callable[[], None]) -> None:
        """Call `end` once the server has been idle for `limit_s`, or its data is deleted."""
        while self.idle_s < limit_s and data_dir.is_dir():
            await asyncio.sleep(min(LOOK_MOST_S, max(0.05, limit_s - self.idle_s)))
        end()
