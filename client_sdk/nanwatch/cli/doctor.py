"""`nanwatch doctor`: looks at what a run needs and says what to do where something is missing."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import platform
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

import nanwatch
from nanwatch import local_server
from nanwatch.cli.output import console, program
from nanwatch.config import MODES, check_address, data_directory
from nanwatch.link.box import boxes, describe

SERVER_TIMEOUT_S = 5.0
ROOM_BYTES = 1 << 30


class Check(NamedTuple):
    """One line of the report."""

    state: Literal["ok", "note", "bad"]
    what: str
    found: str
    advice: str = ""


def doctor(
    server: Annotated[str | None, typer.Option(help="Address. Default: as a run finds it.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: NANWATCH_TOKEN.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check versions, data directory, server, token and what waits to be sent.

    Exit code 1 if something would keep a run from being watched.
    """
    checks = [*_versions(), *_environment(), *_disk(), *_server(server, token), *_waiting()]
    if as_json:
        print(json.dumps({"checks": [check._asdict() for check in checks]}))
    else:
        marks = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "bad": "[bold red]BAD [/]"}
        for check in checks:
            console.print(f"{marks[check.state]} [bold]{check.what}[/]: {_plain(check.found)}")
            if check.advice:
                console.print(f"       {_plain(check.advice)}", soft_wrap=True)
    raise SystemExit(1 if any(check.state == "bad" for check in checks) else 0)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _versions() -> Iterator[Check]:
    yield Check("ok", "nanwatch", f"{nanwatch.__version__} in {Path(nanwatch.__file__).parent}")
    new = sys.version_info >= (3, 11)
    yield Check(
        "ok" if new else "bad",
        "Python",
        f"{platform.python_version()} ({sys.executable})",
        "" if new else "nanwatch needs 3.11 or newer",
    )
    try:
        torch = importlib.metadata.version("torch")
        numbers = tuple(int(part) for part in torch.partition("+")[0].split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        yield Check("note", "torch", "not installed", "only `nanwatch send` works without it")
        return
    old = "" if numbers >= (2, 6) else "older than 2.6: some norms cost a pass of their own"
    yield Check("note" if old else "ok", "torch", torch, old)


def _environment() -> Iterator[Check]:
    import os

    mode = os.environ.get("NANWATCH_MODE") or "online"
    if mode not in MODES:
        yield Check("bad", "NANWATCH_MODE", mode, f"expected one of {', '.join(MODES)}")
    elif mode != "online":
        yield Check("note", "NANWATCH_MODE", mode, "runs of this shell send nothing")
    if sys.flags.ignore_environment:
        yield Check("note", "Python flags", "-E or -I", "`nanwatch run` cannot come in")


def _disk() -> Iterator[Check]:
    import shutil

    directory = data_directory()
    probe = directory / "spool" / f".doctor-{uuid.uuid4().hex}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"x")
        probe.unlink()
        room = shutil.disk_usage(directory).free
    except OSError as error:
        yield Check(
            "bad",
            "data directory",
            f"{directory} cannot be written: {error.strerror or error}",
            "set NANWATCH_DATA_DIR; without it a run keeps at most 32 MiB in memory",
        )
        return
    short = room < ROOM_BYTES
    yield Check(
        "note" if short else "ok",
        "data directory",
        f"{directory}, {room / 1e9:.1f} GB free",
        "little room: NANWATCH_SPOOL_BYTES bounds what a run keeps" if short else "",
    )


def _server(given: str | None, token: str | None) -> Iterator[Check]:
    import os

    url = given or os.environ.get("NANWATCH_URL") or ""
    key = token or os.environ.get("NANWATCH_TOKEN") or ""
    if url:
        try:
            check_address(url)
        except ValueError as error:
            yield Check("bad", "server", url, str(error))
            return
    else:
        found = local_server.read(data_directory())
        if found is None or not local_server.is_alive(found):
            yield from _no_server(found)
            return
        url, key = found.url, key or found.token
    began = time.monotonic()
    if not local_server.answers(url, SERVER_TIMEOUT_S):
        yield Check("bad", "server", f"{url} does not answer", "is it running, is the port right?")
        return
    yield Check("ok", "server", f"{url} answers in {1e3 * (time.monotonic() - began):.0f} ms")
    yield _token(url, key)


def _no_server(found: local_server.Found | None) -> Iterator[Check]:
    if found is not None and not found.here:
        advice = f"forward its port from {found.host} (ssh -L), set NANWATCH_URL, NANWATCH_TOKEN"
        yield Check("bad", "server", f"runs on {found.host}, out of reach from here", advice)
        return
    gone = "" if found is None else f" (the one of {found.url} has ended)"
    lacking = local_server.missing()
    if lacking:
        advice = f"{lacking} is missing: {local_server.INSTALL}; until then runs keep their data"
        yield Check("bad", "server", f"none{gone}, and none can be started", advice)
        return
    advice = f"the next run starts one, or `{program()} serve --detach`"
    yield Check("note", "server", f"none runs{gone}", advice)


def _token(url: str, token: str) -> Check:
    """Ask with an empty body: it is refused for what it is only after the token was taken."""
    if not token:
        return Check("bad", "token", "none", "set NANWATCH_TOKEN as `nanwatch serve` printed it")
    request = urllib.request.Request(
        f"{url}/ingest/v1/lines?project=doctor&run=doctor",
        method="POST",
        data=b"",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=SERVER_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        with error:
            version = error.headers.get("X-Nanwatch-Version", "")
        if error.code in (401, 403):
            return Check(
                "bad", "token", f"refused ({error.code})", "wrong, revoked, or no `ingest`"
            )
        if error.code in (404, 405):
            return Check("bad", "server version", "too old for this SDK", "upgrade the server")
        if version and version != nanwatch.__version__:
            return Check("note", "server version", f"{version}, here {nanwatch.__version__}")
    except (OSError, http.client.HTTPException) as error:
        return Check("bad", "token", f"cannot be tried: {error}")
    return Check("ok", "token", f"accepted ({token[:10]}…)")


def _waiting() -> Iterator[Check]:
    dead = [about for box in boxes(data_directory()) if not (about := describe(box))["alive"]]
    if not dead:
        yield Check("ok", "waiting on disk", "nothing")
        return
    size = sum(about["bytes"] for about in dead) / 1e6
    advice = f"`{program()} sync` sends it; the next run with a server does so in the background"
    yield Check("note", "waiting on disk", f"{len(dead)} ended processes, {size:.1f} MB", advice)
