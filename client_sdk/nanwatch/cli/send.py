"""`nanwatch send`: points from a shell script or another language, in one call or as a stream."""

from __future__ import annotations

import json
import queue
import random
import sys
import threading
import time
import urllib.parse
from typing import Annotated, Any, TextIO

import typer

from nanwatch.cli.output import console, fail
from nanwatch.cli.target import Answer, Target, post, post_patiently, target_of
from nanwatch.contract.lines import EVENTS, LineError, epoch_of, number_of, parse

PATH = "/ingest/v1/lines"
LINES_AT_ONCE = 1_000
GATHER_S = 0.3
BYTES_AT_ONCE = 2 << 20
"""A body may hold twice as much; one line is at most half of this."""

WAITING_MOST = 100_000
SLOW_S = 2.0
"""A writer waits for a server that answers, and for one that does not only so long."""

GIVE_UP_S = 60.0
BAD_SHOWN = 5


def send(
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="loss=0.3 q1.q_mean=NaN. None: JSON lines."),
    ] = None,
    project: Annotated[str, typer.Option(help="Project of the run.")] = "default",
    run: Annotated[str, typer.Option(help="Name (or id) of the run; made when it is new.")] = "",
    step: Annotated[int | None, typer.Option(help="Step of the values.")] = None,
    stage: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    event: Annotated[
        str | None, typer.Option(help="Send an event: end, eval_start, note, …")
    ] = None,
    key: Annotated[
        str, typer.Option(help="The same key twice is stored once: for scripts that try again.")
    ] = "",
    server: Annotated[str | None, typer.Option(help="Address. Default: NANWATCH_URL.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: NANWATCH_TOKEN.")] = None,
) -> None:
    """Send points to a run: values of one step, or JSON lines from standard input.

    nanwatch send --run night-7 --step 7 loss=0.3 grad_norm=1.2

    my_training | nanwatch send --run night-7

    Lines are as docs/launch.md describes: {"step": 7, "loss": 0.3}. Points are stored when the
    command ends with 0.
    """
    if not run:
        fail("expected --run NAME: the run that the points belong to")
    target = target_of(server, token)
    query = urllib.parse.urlencode({"project": project, "run": run})
    if values or event:
        line = _line(values or [], step, stage, event)
        _once(target, f"{PATH}?{query}", line, key)
        return
    if step is not None or key:
        fail("expected NAME=VALUE with --step or --key; lines on standard input carry their step")
    if sys.stdin.isatty():
        fail("expected NAME=VALUE arguments, or JSON lines on standard input")
    # Bytes that are no text are a line that does not fit, and no end of the stream.
    with open(sys.stdin.fileno(), encoding="utf-8", errors="surrogateescape") as source:
        code = Stream(target, query).run(source)
    raise SystemExit(code)


def _line(values: list[str], step: int | None, stage: str, event: str | None) -> dict[str, Any]:
    line: dict[str, Any] = {}
    if event is not None:
        if event not in EVENTS:
            fail(f"--event expects one of {', '.join(EVENTS)}; got {event!r}")
        line["event"] = event
    elif step is None:
        fail("expected --step N: the step of the values")
    else:
        line["stage"] = stage
    if step is not None:
        line["step"] = step
    for pair in values:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            fail(f"expected NAME=VALUE, for example loss=0.3; got {pair!r}")
        line[name] = value if event else _value(name, value)
    line["time"] = time.time()
    try:
        parse(json.dumps(line))
    except LineError as error:
        fail(str(error).partition(": ")[2])
    return line


def _value(name: str, value: str) -> Any:
    try:
        return number_of(value, name)
    except LineError:
        pass
    try:
        return float(value)
    except ValueError:
        fail(f"expected a number, NaN, Infinity or -Infinity for {name}; got {value!r}")


def _once(target: Target, path: str, line: dict[str, Any], key: str) -> None:
    if key:
        path += f"&epoch={epoch_of(key)}"
    try:
        told = post(target, path, json.dumps(line).encode(), "application/x-ndjson")
        if why := _rejected(told):
            fail(f"the server at {target.url} did not store it: {why[0]}")
    except Answer as error:
        fail(f"the server at {target.url} refused ({error.status}): {error}")
    except OSError as error:
        fail(f"no answer of the server at {target.url}: {error}")


def _rejected(told: dict[str, Any]) -> list[str]:
    """Why the server left out what it took: a run with too many series, for example."""
    return [str(one["message"]) for one in told.get("rejected", ())]


class Stream:
    """Lines of standard input, sent in bodies, exactly once: a body that got no answer is sent
    again under its numbers. Reading goes on meanwhile and to the end, whatever the server does:
    the writer may be a training, which neither waits for a dead server nor loses its output."""

    def __init__(self, target: Target, query: str) -> None:
        epoch = random.SystemRandom().getrandbits(52) + 1
        self._target, self._path = target, f"{PATH}?{query}&epoch={epoch}"
        self._waiting: queue.Queue[str | None] = queue.Queue(WAITING_MOST)
        self._first = 0
        self._bad = self._dropped = self._refused = 0
        self._asked_at = float("inf")
        """When the body that waits for its answer was sent first."""
        self._given_up = False

    def run(self, source: TextIO) -> int:
        """Send all; the exit code."""
        reader = threading.Thread(target=self._read, args=(source,), daemon=True)
        reader.start()
        more = True
        while more:
            lines, more = self._gather()
            try:
                if lines and not self._given_up:
                    self._send(lines)
            except (Answer, OSError) as failure:
                self._given_up = True
                self._say(f"{self._first} lines are stored, the rest is not: {failure}")
        if self._bad:
            self._say(f"{self._bad} lines were not canonical and are left out")
        if self._refused:
            self._say(f"{self._refused} lines or more were refused by the server")
        if self._dropped:
            self._say(f"{self._dropped} lines were dropped: the server was too slow")
        return 1 if self._given_up or self._bad or self._refused or self._dropped else 0

    def _say(self, text: str) -> None:
        console.print(f"nanwatch: {text}", markup=False, soft_wrap=True)

    def _read(self, source: TextIO) -> None:
        try:
            for number, text in enumerate(source, 1):
                self._take(text, number)
        finally:
            self._waiting.put(None)

    def _take(self, text: str, number: int) -> None:
        try:
            found = parse(text, number)
        except LineError as error:
            self._bad += 1
            if self._bad <= BAD_SHOWN:
                self._say(str(error))
            return
        if found is not None:
            self._keep(_timed(text, found.time))

    def _keep(self, line: str) -> None:
        while True:
            try:
                self._waiting.put(line, timeout=0.1)
                return
            except queue.Full:
                if time.monotonic() - self._asked_at > SLOW_S:
                    self._dropped += 1
                    return

    def _gather(self) -> tuple[list[str], bool]:
        """The next lines, and whether more may come."""
        lines: list[str] = []
        size = 0
        until = float("inf")
        while len(lines) < LINES_AT_ONCE and size < BYTES_AT_ONCE and time.monotonic() < until:
            try:
                left = None if until == float("inf") else max(0.0, until - time.monotonic())
                line = self._waiting.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                return lines, False
            if not lines:
                until = time.monotonic() + GATHER_S
            lines.append(line)
            size += len(line.encode()) + 1
        return lines, True

    def _send(self, lines: list[str]) -> None:
        path, body = f"{self._path}&first={self._first}", "\n".join(lines).encode()
        self._asked_at = time.monotonic()
        told = post_patiently(self._target, path, body, "application/x-ndjson", GIVE_UP_S)
        self._asked_at = float("inf")
        self._first += len(lines)
        if why := _rejected(told):
            if not self._refused:
                self._say(f"the server did not store a line: {why[0]}")
            self._refused += len(why)


def _timed(text: str, time_s: float | None) -> str:
    """The line with the time at which it was read, unless it has one."""
    text = text.strip()
    if time_s is not None:
        return text
    inner = text[1:].lstrip()
    comma = "" if inner.startswith("}") else ","
    return f'{{"time":{time.time()!r}{comma}{inner}'
