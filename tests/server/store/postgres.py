"""A PostgreSQL server of the tests' own, from installed programs, on a socket in a directory.

Run as `python tests/server/store/postgres.py --install` to make sure that the programs are there.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
}
TROUBLE = (
    "no PostgreSQL for the tests: install it (for example `apt-get install postgresql`, or "
    "`make postgres`) or set NANWATCH_TEST_POSTGRES to the directory with its `initdb`"
)


def programs() -> Path | None:
    """Directory with `initdb` and `postgres`, the newest one."""
    given = os.environ.get("NANWATCH_TEST_POSTGRES")
    if given:
        return Path(given)
    packaged = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(packaged, key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    places = [*(path.parent for path in found[::-1]), *([Path(on_path).parent] if on_path else [])]
    return next((place for place in places if (place / "postgres").exists()), None)


def install() -> Path:
    """The programs, installed now if need be. Raises RuntimeError saying what to do."""
    found = programs()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        print("nanwatch: installing PostgreSQL for the tests", file=sys.stderr, flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"],
        ):
            subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, check=False)
        found = programs()
    if found is None:
        raise RuntimeError(TROUBLE)
    return found


def required() -> bool:
    """True where a missing PostgreSQL is a failure and not a reason to skip."""
    return bool(os.environ.get("CI") or os.environ.get("NANWATCH_TEST_ALL"))


def _account() -> dict[str, str]:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    return {"user": "postgres" if "postgres" in names else "nobody"}


class Cluster:
    """One server. `database()` gives the address of a fresh, empty database."""

    def __init__(self, place: Path) -> None:
        self.programs, self._as = place, _account()
        # Short: the path of a socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="nanwatch-pg-"))
        self._numbers = itertools.count()
        self._used: list[str] = []
        if self._as:
            shutil.chown(self.directory, **self._as)
        self._call(
            "initdb", "-D", str(self.data), "-U", "nanwatch", "-A", "trust",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        self.start()

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.programs / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
            **self._as,  # type: ignore[arg-type]
        )

    def start(self) -> None:
        """Start, or start again after `kill`; returns when it answers."""
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        arguments = (
            "start", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.directory / "log"),
            "-o", " ".join([f"-k {self.directory}", *options]),
        )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                return self._call("pg_ctl", *arguments)
            except subprocess.CalledProcessError:
                # Children of a killed one may still be about to end.
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def kill(self) -> None:
        """kill -9 of the postmaster; its children notice and end."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop and take everything away."""
        with suppress(subprocess.CalledProcessError):  # not running
            self._call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.data))
        shutil.rmtree(self.directory, ignore_errors=True)

    def address(self, name: str) -> str:
        """Address of a database of this server."""
        return f"postgresql://nanwatch@/{name}?host={self.directory}"

    def execute(self, statement: str, name: str = "postgres") -> list[tuple]:
        """One statement, in its own transaction or none."""
        import psycopg

        with psycopg.connect(self.address(name), autocommit=True) as db:
            cursor = db.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """Name of a database with tables and nothing in them."""
        if self._used:
            return self._used.pop()
        name = f"t{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template STRATEGY wal_log")
        return name

    def take_back(self, name: str) -> None:
        """Empty a database, for another test: five times as fast as making a new one."""
        tables = self.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'",
            name,
        )
        sequences = "SELECT setval(oid, 1, false) FROM pg_class WHERE relkind = 'S'"
        self.execute("; ".join([*(f"DELETE FROM {table}" for (table,) in tables), sequences]), name)
        self._used.append(name)


if __name__ == "__main__":
    print((install() if "--install" in sys.argv else programs()) or "no PostgreSQL found")
