"""Starts a server process for the demo and talks to it as a browser would. Used by the CLI only."""

from __future__ import annotations

import http.cookiejar
import json
import os
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from nanwatch.cli.output import fail

READY_TIMEOUT_S = 60.0


class LocalServer:
    """A `nanwatch serve` process of ours."""

    def __init__(self, data_dir: Path, port: int, *options: str) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.data_dir = data_dir
        self.log_path = data_dir / "server.log"
        ready = data_dir / "ready.json"
        ready.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "nanwatch", "serve", "--no-open"),
                    *("--data-dir", str(data_dir), "--port", str(port)),
                    *("--ready-file", str(ready), *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then ends its children in order.
                start_new_session=True,
            )
        info = self._wait(ready)
        self.url: str = info["url"]
        self.login_url: str = info["login_url"]
        self.token: str = json.loads((data_dir / "server.json").read_text())["ingest_token"]

    def _wait(self, ready: Path) -> dict[str, Any]:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if ready.is_file():
                return json.loads(ready.read_text())
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        tail = self.log_path.read_text(errors="replace")[-2000:]
        return fail(f"the server did not start; its log ({self.log_path}) ends with:\n{tail}")

    def stop(self) -> None:
        """End the server; kill it if it takes longer than ten seconds."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Browser:
    """Signed in by the one-time link; sends what the page would send."""

    def __init__(self, url: str, login_url: str) -> None:
        self._url = url
        jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
        )
        self.post("/api/login", {"code": login_url.partition("#code=")[2]})

    def get(self, path: str) -> Any:
        """JSON answer of a GET."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """Raw answer of a GET."""
        with self._opener.open(self._url + path, timeout=30) as answer:
            return answer.read()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """JSON answer of a POST. Raises RuntimeError with the server's own words."""
        return self.send("POST", path, body)

    def send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """The same for any method that carries a body."""
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "X-Nanwatch": "1",
                "Origin": self._url,
                "Idempotency-Key": str(uuid.uuid4()),
            },
        )
        try:
            with self._opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise RuntimeError(f"{path} answered {error.code}: {text}") from None


def points_in(frame: bytes) -> int:
    """Number of points behind a series answer asked with few buckets (protocol section 3)."""
    length = struct.unpack_from("<I", frame)[0]
    header = json.loads(frame[8 : 8 + length])
    blocks = 8 + length
    total = 0
    for series in header["series"]:
        if series["mode"] == "raw":
            total += series["n"]
        else:
            counts = struct.unpack_from(f"<{series['n']}d", frame, blocks + series["count"])
            total += int(sum(counts))
    return total


def environment(server: LocalServer) -> dict[str, str]:
    """Environment of a training that reports to `server`."""
    return {
        **os.environ,
        "NANWATCH_URL": server.url,
        "NANWATCH_TOKEN": server.token,
        "NANWATCH_DATA_DIR": str(server.data_dir / "training"),
        "PYTHONUNBUFFERED": "1",
    }
