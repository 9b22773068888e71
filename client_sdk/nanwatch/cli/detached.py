"""A server in the background: `nanwatch serve --detach` and `--stop`, and what a run starts itself.

Several runs may begin in the same second: one of them starts the server, the others wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from nanwatch import local_server
from nanwatch.cli.output import console, fail
from nanwatch.link.lock import Lock, is_running

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
IDLE_HOURS = 24.0


def start(data_dir: Path, port: int, *, as_json: bool) -> None:
    """Start a detached server unless one runs, wait until it answers, say where it is."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        _say_failure(f"cannot make the data directory {data_dir}: {error.strerror}", as_json)
    deadline = time.monotonic() + READY_TIMEOUT_S
    with Lock(data_dir / "starting.lock") as lock:
        while not lock.take():
            if (found := local_server.alive(data_dir)) is not None:
                return _say({"url": found.url}, as_json)
            if time.monotonic() > deadline:
                _say_failure("another run has been starting a server for a minute", as_json)
            time.sleep(0.1)
        if (found := local_server.alive(data_dir)) is not None:
            return _say({"url": found.url}, as_json)
        return _say(_begin(data_dir, port, deadline, as_json), as_json)


def _begin(data_dir: Path, port: int, deadline: float, as_json: bool) -> dict[str, str]:
    ready, log_path = data_dir / "ready.json", data_dir / "server.log"
    ready.unlink(missing_ok=True)
    opener = partial(os.open, mode=0o600)  # it shows tokens
    with open(log_path, "ab", opener=opener) as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "nanwatch", "serve", "--no-open"),
                *("--data-dir", str(data_dir), "--port", str(_free(port))),
                *("--idle-hours", str(IDLE_HOURS), "--ready-file", str(ready)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=data_dir,
            env=local_server.server_environment(),
            start_new_session=True,  # neither Ctrl-C nor the end of the terminal reaches it
        )
    while time.monotonic() < deadline:
        if ready.is_file():
            told = json.loads(ready.read_text())
            ready.unlink(missing_ok=True)  # it holds a login link
            return {"url": told["url"], "login_url": told["login_url"]}
        if server.poll() is not None:
            break
        time.sleep(0.05)
    if server.poll() is None:
        server.terminate()
    tail = log_path.read_text(errors="replace")[-1000:].strip()
    return _say_failure(f"the server did not start; {log_path} ends with: {tail}", as_json)


def _free(port: int) -> int:
    """The wanted port, or any free one if it is taken (by another user's server, often)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _say(told: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told), flush=True)
        return
    console.print(f"[bold]nanwatch[/] runs at {told['url']}", soft_wrap=True)
    if "login_url" in told:
        console.print(f"  open once:  {told['login_url']}", soft_wrap=True)
    console.print("  `nanwatch login` prints another link, `nanwatch serve --stop` ends it")


def _say_failure(message: str, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps({"error": message}), flush=True)
        raise SystemExit(1)
    fail(message)


def stop(data_dir: Path) -> None:
    """End the server of this directory, detached or not; what it has acknowledged stays."""
    found = local_server.read(data_dir)
    if found is None or (found.here and not local_server.is_alive(found)):
        fail(f"no server runs in {data_dir}")
    if not found.here:
        fail(f"the server of {data_dir} runs on {found.host}: stop it there")
    if found.pid <= 1:  # to the system 0 and -1 mean many processes
        fail(f"{data_dir / local_server.SERVER_FILE} does not say which process the server is")
    try:
        os.kill(found.pid, signal.SIGTERM)
    except OSError as error:
        fail(f"cannot end the server with pid {found.pid}: {error}")
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_running(found.pid):
        if time.monotonic() > deadline:
            fail(f"the server with pid {found.pid} has not ended within {STOP_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
    console.print(f"nanwatch: the server at {found.url} has ended")
