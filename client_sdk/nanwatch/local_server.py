"""This user's own server on this machine: found by its file, and started if there is none.

`Finder` is asked by the background thread before every connect and never waits for more than a
health check; the server is begun by a short-lived `nanwatch serve --detach`, which holds the lock
against other runs that start now, so that no child of ours stays with the training process.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nanwatch.link.lock import is_running

if TYPE_CHECKING:
    import subprocess

logger = logging.getLogger("nanwatch")

SERVER_FILE = "server.json"
HEALTH_TIMEOUT_S = 1.0
LOOK_INTERVAL_S = 2.0
STARTING_MOST_S = 120.0
NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "pydantic_settings", "structlog", "numpy")
"""What the extra `server` brings; without it a run only keeps its data on disk."""

INSTALL = "pip install 'nanwatch[server]'"


@dataclass(frozen=True, slots=True)
class Found:
    """A server's own words about itself, from its file."""

    url: str
    token: str
    """For ingest."""
    admin_token: str = ""
    pid: int = 0
    host: str = ""
    """Host name of the machine it runs on; empty from an older server."""

    @property
    def here(self) -> bool:
        """True if it runs on this machine: the data directory may lie on a network disk."""
        return self.host in ("", socket.gethostname())


def read(data_dir: Path) -> Found | None:
    """What the file in the data directory says; the server may be dead by now."""
    try:
        told = json.loads((data_dir / SERVER_FILE).read_text())
        if urlsplit(told["url"]).scheme not in ("http", "https"):
            return None
        return Found(
            url=str(told["url"]),
            token=str(told["ingest_token"]),
            admin_token=str(told.get("admin_token", "")),
            pid=int(told.get("pid", 0)),
            host=str(told.get("host", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def answers(url: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """True if a nanwatch server answers there. Waits at most `timeout_s`."""
    import http.client  # on the background thread: they are not needed to start a run
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/healthz", timeout=timeout_s) as answer:
            return json.loads(answer.read(1000)) == {"ok": True}
    except (OSError, ValueError, http.client.HTTPException):  # the last: no server of the web
        return False


def alive(data_dir: Path) -> Found | None:
    """The server of this data directory, if it runs on this machine and answers."""
    found = read(data_dir)
    return found if found is not None and is_alive(found) else None


def is_alive(found: Found) -> bool:
    """True if this very server answers. Its process is asked for too: after a crash the port may
    belong to another user's server, which must not be sent our token."""
    return found.here and (found.pid <= 0 or is_running(found.pid)) and answers(found.url)


def missing() -> str:
    """Name of a package that the server needs and that is not installed; empty if all are."""
    return next((name for name in NEEDED if not _is_installed(name)), "")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # switched off in `sys.modules`
        return False


class Finder:
    """Knows where the local server is, from round to round. Background thread only."""

    def __init__(self, data_dir: Path, may_start: bool) -> None:
        self._data_dir, self._may_start = data_dir, may_start
        self._starting: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._look_at = 0.0
        self._told: set[str] = set()

    def find(self) -> Found | None:
        """The server if it is there; otherwise starts one once, and asks for another round."""
        now = time.monotonic()
        if self._starting is not None:
            return self._wait(now)
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_INTERVAL_S
        found = read(self._data_dir)
        if found is not None and is_alive(found):
            return found
        if found is not None and not found.here:
            self._tell(
                "elsewhere",
                "nanwatch: this user's server runs on %s, out of reach from here; data is kept in "
                "%s. Forward its port (ssh -L) and set NANWATCH_URL and NANWATCH_TOKEN, or send "
                "it later with `nanwatch sync`.",
                found.host,
                self._data_dir / "spool",
            )
        elif self._may_start:
            self._start(now)
        else:
            self._tell(
                "none",
                "nanwatch: no server is known, so nobody watches this run; its data is kept in %s. "
                "Start one with `nanwatch serve`, or set NANWATCH_URL and NANWATCH_TOKEN.",
                self._data_dir / "spool",
            )
        return None

    def close(self) -> None:
        """The run ends: a server that is coming up does so without us."""
        starting, self._starting = self._starting, None
        if starting is not None:
            # It goes on alone: neither a warning nor a zombie's exit code is wanted from it.
            if starting.stdout is not None:
                starting.stdout.close()
            starting.returncode = 0

    def _start(self, now: float) -> None:
        import subprocess

        self._may_start = False
        lacking = missing()
        if lacking:
            self._tell(
                "extra",
                "nanwatch: nobody watches this run: no server is running, and one cannot be "
                "started without the extra `server` (%s is missing): %s. The run's data is kept "
                "in %s; `nanwatch sync` sends it later.",
                lacking,
                INSTALL,
                self._data_dir / "spool",
            )
            return
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._starting = subprocess.Popen(
                [
                    *(sys.executable, "-m", "nanwatch", "serve", "--detach", "--json"),
                    *("--data-dir", str(self._data_dir)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._data_dir,
                env=server_environment(),
                start_new_session=True,
            )
            self._started_at = now
        except (OSError, ValueError) as error:
            self._failed(str(error))

    def _wait(self, now: float) -> Found | None:
        starting = self._starting
        assert starting is not None
        if starting.poll() is None:
            if now - self._started_at > STARTING_MOST_S:
                self.close()
                self._failed(f"nothing within {STARTING_MOST_S:.0f} s")
            return None
        self._starting = None
        assert starting.stdout is not None
        with starting.stdout:
            said = _json(starting.stdout.read())
        if said.get("login_url"):
            print(
                f"nanwatch: started a server for you. Open once: {said['login_url']}\n"
                "nanwatch: it stays after this run and ends after a day without use, or by "
                "`nanwatch serve --stop`; `nanwatch login` prints another link",
                file=sys.stderr,
                flush=True,
            )
        elif said.get("error") or not said:
            self._failed(str(said.get("error", "it ended at once")))
            return None
        self._look_at = now + LOOK_INTERVAL_S
        return read(self._data_dir)

    def _failed(self, why: str) -> None:
        self._told.add("none")
        self._tell(
            "failed",
            "nanwatch: a server could not be started (%s; see %s). The run's data is kept in %s.",
            why[:500],
            self._data_dir / "server.log",
            self._data_dir / "spool",
        )

    def _tell(self, key: str, text: str, *values: object) -> None:
        if key not in self._told:
            self._told.add(key)
            logger.warning(text, *values)


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def server_environment() -> dict[str, str]:
    """The environment of a server that outlives its run: nothing of the launch or of one rank."""
    own = ("NANWATCH_LAUNCH", "NANWATCH_RUN", "NANWATCH_PROJECT", "NANWATCH_MODE", "TORCHELASTIC")
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    site = str(Path(__file__).resolve().parent / "_site")
    entries = [os.path.abspath(e) for e in env.get("PYTHONPATH", "").split(os.pathsep) if e]
    env.pop("PYTHONPATH", None)
    if kept := [entry for entry in entries if entry != site]:
        env["PYTHONPATH"] = os.pathsep.join(kept)
    return env
