"""What holds for every test, before any of them runs. Fixtures live beside their tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Programs under test hear Ctrl-C however the tests were started.

    A shell without job control starts what it puts in the background (`make test &`) with SIGINT
    ignored, and every child inherits that: a test that sends Ctrl-C would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
