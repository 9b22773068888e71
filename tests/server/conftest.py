"""A real server on a real port and a real database file, in a thread of the test."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from nanwatch_server.app import Ready, run_server
from nanwatch_server.settings import Settings
from nanwatch_server.store.sql import SqlStore
from tests.server.gatekit import guarded, running


class Running:
    """A server that runs, and a logged-in browser's HTTP client."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        listening = threading.Event()
        self._web: Any = None

        def on_ready(ready: Ready) -> None:
            self.ready = ready
            listening.set()

        def run() -> None:
            run_server(
                Settings(data_dir=data_dir, port=0, **settings),
                on_ready=on_ready,
                handle=lambda web: setattr(self, "_web", web),
            )

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert listening.wait(30), "the server did not start"
        self.url, self.token = self.ready.url, self.ready.ingest_token
        self.http = httpx.Client(
            base_url=self.url,
            trust_env=False,
            headers={"X-Nanwatch": "1", "Content-Type": "application/json"},
        )
        code = self.ready.login_url.split("code=")[1]
        self.http.post("/api/login", json={"code": code}).raise_for_status()

    def get(self, path: str, **params: Any) -> Any:
        """JSON of a route that must answer 200."""
        answer = self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def parts(self) -> Any:
        """The `app.Server` itself, for what no answer shows."""
        return self._web._server

    @property
    def cookie(self) -> str:
        """The browser's session, as a header."""
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())

    def stop(self) -> None:
        """As SIGTERM would."""
        self.http.close()
        self._web.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty data directory to copy (a migration takes longer than most tests)."""
    path = tmp_path_factory.mktemp("template") / "data"
    SqlStore(path).close()
    return path


@pytest.fixture
def data_dir(tmp_path: Path, template: Path) -> Path:
    """The test's own data directory, empty."""
    return Path(shutil.copytree(template, tmp_path / "data"))


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Running]]:
    """Starts servers on the test's own data directory; stops what still runs."""
    running: list[Running] = []

    def begin(**settings: Any) -> Running:
        running.append(Running(data_dir, **settings))
        return running[-1]

    yield begin
    for server in running:
        if server._thread.is_alive():
            server.stop()


@pytest.fixture
def server(start: Callable[..., Running]) -> Running:
    """One server."""
    return start()


@pytest.fixture
def server_kit() -> SimpleNamespace:
    """`running` and `guarded`: an app of the test's own on a real port, behind the gate."""
    return SimpleNamespace(running=running, guarded=guarded)


@pytest.fixture
def store(data_dir: Path) -> Iterator[SqlStore]:
    """A real store in its own directory."""
    made = SqlStore(data_dir)
    yield made
    made.close()
