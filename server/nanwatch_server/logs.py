"""How the server's log looks: one line an event on stderr, tracebacks without local variables.

Local variables of a request hold cookies and tokens, so they are never printed; what looks like a
secret is masked, and control characters that a client sent are shown, not obeyed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import structlog

_SECRET = re.compile(r"(nw_[a-z]+_[\w-]{6}|nanwatch_session=|code=)[\w-]{8,}")


def configure() -> None:
    """Unless the program around the server has its own way of logging."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        logger_factory=lambda *_: _Stderr(),
    )


class _Stderr:
    """Writes lines; a full disk or a closed terminal never stops the thread that has a word."""

    def msg(self, line: str) -> None:
        """One event."""
        with suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = msg


def render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """`time level what key=value …`, then the traceback, if any."""
    trace = event.pop("exception", "")
    head = [event.pop(name, "") for name in ("timestamp", "level", "event")]
    rest = [f"{key}={value!r}" for key, value in event.items()]
    lines = [" ".join(str(part) for part in [*head, *rest]), *trace.splitlines()]
    return "\n".join(_SECRET.sub(r"\1…", _visible(line)) for line in lines)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
