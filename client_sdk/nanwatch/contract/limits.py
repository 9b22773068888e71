"""Bounds of wire v1, told to the client in `welcome` and enforced by the server.

Sources: design section 6 and the reliability reference, section 4.
"""

from __future__ import annotations

import re

PROTOCOL = "nanwatch.v1"
"""WebSocket subprotocol; the major version is in the name."""

PROTOCOL_VERSION = 1

INGEST_PATH = "/ingest/v1"
LIVE_PATH = "/live"

FRAME_BYTES_MAX = 1 << 20
"""Largest frame on the ingest socket, in bytes."""

BATCH_RECORDS_MAX = 2_000
TABLE_SERIES_MAX = 4_096
TABLE_ROWS_MAX = 4_096
NAME_CHARS_MAX = 200
TEXT_BYTES_MAX = 8 << 10
SERIES_PER_RUN_MAX = 20_000
STEP_MAX = (1 << 53) - 1
"""Largest step: the last integer that a float64 axis shows exactly."""

CREDIT_BATCHES = 64
"""Batches a client may have in flight before an ack arrives."""

BEAT_INTERVAL_S = 5.0
"""The client says it is alive this often, also when no step was made."""

HANDSHAKE_TIMEOUT_S = 5.0
GO_WINDOW_S = 5.0
"""A `go` counts only if it comes at most this long after the client's `accepted`."""

CLOSE_PROTOCOL = 4400
CLOSE_UNAUTHENTICATED = 4401
CLOSE_FORBIDDEN = 4403
CLOSE_TIMEOUT = 4408
CLOSE_FENCED = 4409
CLOSE_TOO_LARGE = 4413
CLOSE_UPGRADE = 4426
CLOSE_TOO_MANY = 4429

_NAME = re.compile(r"[A-Za-z0-9_./:@\-]{1,200}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_./:@\-]+")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def is_name(text: str) -> bool:
    """True if `text` may name a run, project, scope, layer or series."""
    return _NAME.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    """True for 32 lower-case hexadecimal digits (a UUID without dashes)."""
    return _RUN_ID.fullmatch(text) is not None


def to_name(text: str) -> str:
    """The nearest allowed name: other characters become `_`, long names are cut."""
    return _UNSAFE.sub("_", text)[:NAME_CHARS_MAX] or "_"
