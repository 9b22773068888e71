"""A real server process, a real Chromium, real trainings. Nothing here is simulated."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from e2e.browser import ARGUMENTS, install
from nanwatch.cli.local_server import Browser, LocalServer, environment

ROOT = Path(__file__).parents[2]
TRAININGS = Path(__file__).parent / "trainings"

expect.set_options(timeout=20_000)
"""A machine may have two cores for a browser, a server and a training: 5 s are not enough."""


class Server(LocalServer):
    """A server that can be killed and started again on the same port and data."""

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        super().__init__(data_dir, port)
        self.port = int(self.url.rsplit(":", 1)[1])
        self.client = Browser(self.url, self.login_url)
        self._link_used = True

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def link(self, role: str = "admin") -> str:
        """A fresh login link."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "nanwatch", "login", "--no-open"),
                *("--role", role),
                *("--data-dir", str(self.data_dir)),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def run_id(self, timeout_s: float = 60) -> str:
        """The newest run."""
        runs = eventually(lambda: self.client.get("/api/runs")["runs"], timeout_s, "a run")
        return runs[0]["id"]

    def points(self, run: str, kind: str, layer: str = "") -> tuple[list[int], list[float]]:
        """Every stored point of one series, through the public API."""
        series = self.client.get(f"/api/runs/{run}")["series"]
        ids = [s["id"] for s in series if (s["kind"], s["layer"]) == (kind, layer)]
        if not ids:
            return [], []
        (found,) = ids
        frame = self.client.get_bytes(f"/api/runs/{run}/series?ids={found}&buckets=20000")
        length = struct.unpack_from("<I", frame)[0]
        (entry,) = json.loads(frame[8 : 8 + length])["series"]
        assert entry["mode"] == "raw"

        def column(name: str) -> list[float]:
            start = 8 + length + entry[name]
            return array("d", frame[start : start + 8 * entry["n"]]).tolist()

        return [int(step) for step in column("steps")], column("values")


def eventually(look: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait until `look()` is true; fail saying what never came."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    pytest.fail(f"no {what} within {timeout_s} s")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with an empty data directory."""
    started = Server(tmp_path / "data")
    yield started
    started.stop()
    # A receiver of a test that is down on purpose is no fault of the server.
    lines = started.log_path.read_text().splitlines()
    log = "\n".join(line for line in lines if " warning could not notify " not in line)
    assert "Traceback" not in log and "ERROR" not in log.upper().replace("NO ERROR", ""), log


Train = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def train(server: Server, tmp_path: Path) -> Iterator[Train]:
    """Starts trainings that report to the server; ends those that still run."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        with open(tmp_path / f"training-{len(started)}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=environment(server), stdout=log, stderr=log
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One browser for the tests of a file. Not of the session: while Playwright is open it keeps
    an event loop running on this thread, and other tests call `asyncio.run`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=install(), args=ARGUMENTS)
        yield browser
        browser.close()


def watch_page(page: Page, origin: str, complaints: list[str]) -> None:
    """Note everything a page must never do: errors, CSP reports, requests to elsewhere."""

    def console(message: Any) -> None:
        # The browser's own line about a server that is gone is not the page's doing.
        down = re.search(
            r"net::ERR_(CONNECTION_|EMPTY_RESPONSE)|WebSocket connection", message.text
        )
        # The page shows why.
        refused = re.search(r"responded with a status of (422|409)\b", message.text)
        if message.type in ("error", "warning") and not (down or refused):
            complaints.append(f"console {message.type}: {message.text}")

    def request(sent: Any) -> None:
        own = sent.url.startswith((origin, origin.replace("http", "ws"), "data:", "blob:"))
        if not own:
            complaints.append(f"request to {sent.url}")

    page.on("console", console)
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("request", request)


@pytest.fixture
def open_page(chromium: Chromium, server: Server) -> Iterator[Callable[..., Page]]:
    """Opens signed-in pages; afterwards none of them may have complained."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_(path: str = "/", **options: Any) -> Page:
        settings: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, **options}
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        watch_page(page, server.url, complaints)
        page.goto(server.link())
        page.get_by_test_id("connection").wait_for()
        if path != "/":
            page.goto(server.url + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Saves a screenshot where NANWATCH_SCREENSHOTS points, for people to look at."""
    directory = os.environ.get("NANWATCH_SCREENSHOTS")

    def save(page: Page, name: str) -> None:
        if directory:
            test = re.sub(r"\W+", "-", request.node.name)
            page.screenshot(path=Path(directory) / f"{test}-{name}.png", full_page=True)

    return save
