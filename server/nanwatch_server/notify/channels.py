"""The server's side of sending: courier processes, started when there is something to send.

Called by `worker` (messages) and `book` (is this an address?, the test button). What a courier does
is in `courier`; which services there are, in `services`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import IO, Any

import structlog

from nanwatch_server.domain.notify import Channel
from nanwatch_server.notify.message import Message

_log = structlog.get_logger()

ANSWER_S = 30.0
"""A service that has not taken the message by then has failed; the courier is killed."""

START_S = 60.0
"""More than that for the first job: apprise is imported, on a machine that may be busy training."""

IDLE_S = 60.0
COURIERS_MAX = 4
"""Processes at a time, 50 MB each, while there is something to send."""

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT", "VIRTUAL_ENV")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message."""

    ok: bool
    error: str = ""
    """In one sentence, without secrets."""
    retry_after_s: float = 0.0
    """How long the service asked to be left alone."""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Address:
    """What an address turned out to be. `error` is empty if a channel can have it."""

    service: str = ""
    shown: str = ""
    error: str = ""


class _Courier:
    """One process; one job at a time."""

    def __init__(self, *, allow_local: bool) -> None:
        kept = {name: os.environ[name] for name in (*_KEPT, *_CERTIFICATES) if name in os.environ}
        # No proxy and no `.netrc`, whatever the environment or the system has.
        kept |= {"NO_PROXY": "*", "no_proxy": "*", "NETRC": os.devnull}
        command = [sys.executable, "-P", "-m", "nanwatch_server.notify.courier"]
        self._process = subprocess.Popen(
            [*command, "--allow-local"] if allow_local else command,
            env=kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            # Ctrl-C is for the server, which ends its couriers in order.
            process_group=0 if os.name == "posix" else None,
        )
        self._fresh = True
        self.idle_since = time.monotonic()

    def ask(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None if there was none in time (the process is gone then)."""
        limit = ANSWER_S + (START_S if self._fresh else 0.0)
        killer = threading.Timer(limit, self._process.kill)
        killer.start()
        try:
            jobs, answers = self._pipes()
            jobs.write(json.dumps(job) + "\n")
            jobs.flush()
            line = answers.readline()
            return json.loads(line) if line.endswith("\n") else None
        except (OSError, ValueError):
            return None
        finally:
            killer.cancel()
            self._fresh = False
            self.idle_since = time.monotonic()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def close(self, *, wait: bool = True) -> None:
        """End it; a job in hand is given up."""
        self._process.kill()
        if wait:
            self._process.wait()
            for pipe in self._pipes():
                pipe.close()


class Couriers:
    """A few processes that send. Every method may be called from any thread."""

    def __init__(self, *, allow_local: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.allow_local = allow_local
        self._clock = clock
        self._idle: queue.LifoQueue[_Courier] = queue.LifoQueue()
        self._free = threading.BoundedSemaphore(COURIERS_MAX)
        self._lock = threading.Lock()
        self._all: set[_Courier] = set()
        self._closed = False

    def check(self, url: str) -> Address:
        """Whether a channel can have this address, and what is shown of it."""
        answer = self._ask({"op": "check", "url": url})
        if not answer["ok"]:
            return Address(error=answer["error"])
        return Address(service=answer["service"], shown=answer["shown"])

    def send(self, channel: Channel, key: str, message: Message) -> Outcome:
        """Send now, once."""
        job = {"op": "send", "url": channel.url, "secret": channel.secret, "key": key}
        began = self._clock()
        answer = self._ask(job | {"message": asdict(message)})
        return Outcome(
            ok=answer["ok"],
            error=answer.get("error", ""),
            retry_after_s=answer.get("retry_after_s", 0.0),
            took_s=self._clock() - began,
        )

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        with self._free:
            courier = self._take()
            if courier is None:
                return {"ok": False, "error": "the server is about to end"}
            answer = courier.ask(job)
            if answer is None or self._closed:
                self._drop(courier)
            else:
                self._idle.put(courier)
        if answer is None:
            if job["op"] == "check":
                return {"ok": False, "error": "it could not be checked in time: try again"}
            return {"ok": False, "error": f"the service did not take it within {ANSWER_S:g} s"}
        return answer

    def _take(self) -> _Courier | None:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        with self._lock:
            if self._closed:
                return None
            made = _Courier(allow_local=self.allow_local)
            self._all.add(made)
            return made

    def _drop(self, courier: _Courier) -> None:
        with self._lock:
            self._all.discard(courier)
        courier.close()

    def trim(self) -> None:
        """End processes that have had nothing to do for a while."""
        kept: list[_Courier] = []
        while True:
            try:
                courier = self._idle.get_nowait()
            except queue.Empty:
                break
            if time.monotonic() - courier.idle_since > IDLE_S:
                self._drop(courier)
            else:
                kept.append(courier)
        for courier in kept[::-1]:
            self._idle.put(courier)

    def close(self) -> None:
        """End all of them; jobs in hand fail."""
        with self._lock:
            self._closed = True
            running = list(self._all)
        for courier in running:
            courier.close(wait=False)
        while True:
            try:
                self._drop(self._idle.get_nowait())
            except queue.Empty:
                return
