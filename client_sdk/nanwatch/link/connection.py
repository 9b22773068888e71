"""One WebSocket to the server, with the timeouts and refusals that a guest needs.

`websockets` speaks the protocol and does no I/O: its threaded client would wake two threads of its
own for every acknowledgement, in the interpreter that the training needs. It is imported here on
first use, on the background thread. Knows frames, not what they mean: `link.worker` decides.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from nanwatch.contract.frames import ClientFrame, ServerFrame, decode_server, encode
from nanwatch.contract.limits import FRAME_BYTES_MAX, INGEST_PATH, PROTOCOL

OPEN_TIMEOUT_S = 2.0
REASON_BYTES, REASON_CHARACTERS = 4096, 500
SEND_TIMEOUT_S = 1.0
"""Without any progress for this long the connection is given up: data is safe in the spool, and
the process may be about to end (`stop` waits two seconds)."""
CLOSE_TIMEOUT_S = 0.5

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 60.0
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 30.0
RETRY_REFUSED_S = 300.0
READ_BYTES = 1 << 16


class Refused(Exception):
    """The server answered and will not have us: wrong token, wrong version. Retry rarely."""


class Closed(OSError):
    """The server closed the connection, or it broke."""


class Connection:
    """A live socket. All methods are called from the background thread."""

    def __init__(self, server: str, token: str) -> None:
        from websockets.client import ClientProtocol
        from websockets.protocol import State
        from websockets.uri import parse_uri

        parts = urlsplit(server)
        scheme = "wss" if parts.scheme == "https" else "ws"
        uri = parse_uri(f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{INGEST_PATH}")
        until = time.monotonic() + OPEN_TIMEOUT_S
        self._protocol: Any = ClientProtocol(
            uri,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]
            max_size=FRAME_BYTES_MAX,
        )
        self._state: Any = State
        self._frames: deque[bytes] = deque()
        self._parts: list[bytes] = []
        """Of a message that came in pieces."""
        self._blocked: tuple[type[Exception], ...] = (BlockingIOError,)
        self._heard_at = self._pinged_at = time.monotonic()
        self._socket: Any = socket.create_connection((uri.host, uri.port), OPEN_TIMEOUT_S)
        self._readable = selectors.DefaultSelector()
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                self._secure(uri.host, until)
            self._socket.setblocking(False)
            self._readable.register(self._socket, selectors.EVENT_READ)
            self._open(server, token, until)
        except BaseException:
            self._let_go()
            raise

    def _secure(self, host: str, until: float) -> None:
        import ssl

        self._blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
        self._socket.settimeout(max(0.01, until - time.monotonic()))
        context = ssl.create_default_context()
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    def _open(self, server: str, token: str, until: float) -> None:
        """The opening handshake."""
        from websockets.exceptions import InvalidStatus

        protocol = self._protocol
        request = protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        protocol.send_request(request)
        self._flush()
        while protocol.state is self._state.CONNECTING and protocol.handshake_exc is None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out during the opening handshake")
            self._read(left)
        error = protocol.handshake_exc
        if error is None:
            return
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            moved = error.response.headers.get("Location", "")
            if status in (401, 403, 404, 426) or moved:
                why = (
                    f", moved to {moved}: name that one" if moved else _reason(error.response.body)
                )
                token = " Check NANWATCH_TOKEN." if status == 401 else ""
                raise Refused(
                    f"the server at {server} refused the connection: HTTP {status}{why}.{token}"
                ) from None
        raise error

    # --- sending ---------------------------------------------------------------------------------

    def send(self, frame: ClientFrame) -> None:
        """Send one frame. Raises OSError."""
        self.send_bytes(encode(frame))

    def send_bytes(self, frame: bytes) -> None:
        """Send a frame that is encoded already. Raises OSError."""
        if self._protocol.state is not self._state.OPEN:
            raise self._closed()
        self._protocol.send_binary(frame)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._write(data)
            # Else: the end of the stream. `close` does that.

    def _write(self, data: bytes) -> None:
        sent, left = 0, len(data)
        view = memoryview(data)
        while left:
            try:
                n = self._socket.send(view[sent:] if sent else data)
            except self._blocked:
                self._wait_until_writable()
                continue
            sent, left = sent + n, left - n

    def _wait_until_writable(self) -> None:
        with selectors.DefaultSelector() as writable:
            writable.register(self._socket, selectors.EVENT_WRITE)
            if not writable.select(SEND_TIMEOUT_S):
                raise TimeoutError(f"the server read nothing for {SEND_TIMEOUT_S:g} s")

    # --- receiving -------------------------------------------------------------------------------

    def receive(self, timeout_s: float) -> ServerFrame | None:
        """The next frame, or None if none came in time. Raises OSError."""
        if not self._frames:
            self._read(timeout_s)
            if not self._frames:
                if self._protocol.state is not self._state.OPEN:
                    raise self._closed()
                self._keep_alive()
                return None
        return decode_server(self._frames.popleft())

    def _read(self, timeout_s: float) -> None:
        """Take in what has come; wait for it if there is nothing."""
        try:
            data = self._socket.recv(READ_BYTES)
        except self._blocked:
            if timeout_s <= 0 or not self._readable.select(timeout_s):
                return
            try:
                data = self._socket.recv(READ_BYTES)
            except self._blocked:
                return  # half a record of TLS
        protocol = self._protocol
        if data:
            self._heard_at = time.monotonic()
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            self._take(event)
        self._flush()  # answers to pings

    def _take(self, event: Any) -> None:
        opcode = getattr(event, "opcode", None)  # the response of the handshake has none
        if opcode is None or opcode > 2:
            return
        if event.fin and not self._parts:
            self._frames.append(event.data)
            return
        self._parts.append(event.data)
        if event.fin:
            self._frames.append(b"".join(self._parts))
            self._parts.clear()

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if now - self._pinged_at < PING_INTERVAL_S:
            return
        if now - self._heard_at > PING_TIMEOUT_S:
            raise TimeoutError(f"the server said nothing for {PING_TIMEOUT_S:.0f} s")
        self._pinged_at = now
        self._protocol.send_ping(b"")
        self._flush()

    # --- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close, without waiting long; what was sent has been read then."""
        protocol = self._protocol
        try:
            if protocol.state is self._state.OPEN:
                protocol.send_close(1000)
                self._flush()
                until = time.monotonic() + CLOSE_TIMEOUT_S
                while protocol.state is not self._state.CLOSED:
                    left = until - time.monotonic()
                    if left <= 0:
                        break
                    self._read(left)
        except OSError:
            pass  # it is closed already
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._readable.close()
        self._socket.close()

    def abort(self) -> None:
        """Cut the line under a send that hangs. The one method for other threads."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close_code(self) -> int | None:
        """Close code that the server sent, if any."""
        received = self._protocol.close_rcvd
        return received.code if received is not None else None

    def _closed(self) -> Closed:
        received = self._protocol.close_rcvd
        if received is None:
            return Closed("the connection broke")
        return Closed(f"closed by the server: {received.code} {received.reason}".rstrip())


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


def _reason(body: bytes | bytearray | None) -> str:
    """What a refusal says of itself, as our server does; empty if nothing can be read."""
    try:
        said = json.loads(bytes(body or b"")[:REASON_BYTES])["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    if not isinstance(said, str):
        return ""
    plain = "".join(c if c.isprintable() else " " for c in said[:REASON_CHARACTERS])
    return f": {plain.rstrip('. ')}"
