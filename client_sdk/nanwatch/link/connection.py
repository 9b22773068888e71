"""One WebSocket to the server, with the timeouts and refusals that a guest needs.

`websockets` is imported here on first use, on the background thread. Knows frames, not what they
mean: `link.worker` decides.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
from typing import Any
from urllib.parse import urlsplit

from nanwatch.contract.frames import ClientFrame, ServerFrame, decode_server, encode
from nanwatch.contract.limits import FRAME_BYTES_MAX, INGEST_PATH, PROTOCOL

OPEN_TIMEOUT_S = 2.0
SEND_TIMEOUT_S = 1
"""Without any progress for this long the connection is given up: data is safe in the spool, and
the process may be about to end (`stop` waits two seconds)."""

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 60.0
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 30.0
RETRY_REFUSED_S = 300.0


class Refused(Exception):
    """The server answered and will not have us: wrong token, wrong version. Retry rarely."""


class Connection:
    """A live socket. All methods are called from the background thread."""

    def __init__(self, server: str, token: str) -> None:
        from websockets.exceptions import InvalidStatus
        from websockets.sync.client import connect

        parts = urlsplit(server)
        scheme = "wss" if parts.scheme == "https" else "ws"
        address = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{INGEST_PATH}"
        try:
            opened = connect(
                address,
                subprotocols=[PROTOCOL],  # type: ignore[list-item]
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                proxy=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=0.5,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_TIMEOUT_S,
                max_size=FRAME_BYTES_MAX,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403, 404, 426):
                raise Refused(
                    f"the server at {server} refused the connection: HTTP {status}"
                ) from None
            raise
        # Entered by hand and left by `close`: used without `with` it is deprecated since 17.
        self._socket: Any = opened.__enter__()
        _limit_sending(self._socket.socket)

    def send(self, frame: ClientFrame) -> None:
        """Send one frame. Raises OSError or websockets' ConnectionClosed."""
        self._socket.send(encode(frame))

    def send_bytes(self, frame: bytes) -> None:
        """Send a frame that is encoded already."""
        self._socket.send(frame)

    def receive(self, timeout_s: float) -> ServerFrame | None:
        """The next frame, or None if none came in time."""
        try:
            data = self._socket.recv(timeout=timeout_s)
        except TimeoutError:
            return None
        return decode_server(data if isinstance(data, bytes) else data.encode())

    def close(self) -> None:
        """Close, without waiting long."""
        self._socket.close()

    def abort(self) -> None:
        """Cut the line under a send that hangs. The one method for other threads."""
        try:
            self._socket.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close_code(self) -> int | None:
        """Close code that the server sent, if any."""
        return getattr(self._socket, "close_code", None)


def _limit_sending(sock: socket.socket) -> None:
    """A server that stops reading must not hold the background thread for ever."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform != "win32":
        timeval = struct.pack("ll", SEND_TIMEOUT_S, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


class Backoff:
    """Full jitter between 0.5 s and 30 s, five minutes after a refusal."""

    def __init__(self) -> None:
        self._failures = 0
        # Own generator: the user's random state must stay untouched.
        self._random = random.Random()

    def after_failure(self) -> float:
        """Seconds to wait before the next try."""
        ceiling = min(RETRY_MOST_S, RETRY_FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        return self._random.uniform(RETRY_FIRST_S / 2, ceiling)

    def after_refusal(self) -> float:
        """Seconds to wait when the server said no."""
        return RETRY_REFUSED_S

    def reset(self) -> None:
        """A connection stood."""
        self._failures = 0
