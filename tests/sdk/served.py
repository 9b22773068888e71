"""A real server in a process of its own, and what it has stored. For tests of delivery."""

from __future__ import annotations

import json
import struct
from array import array
from pathlib import Path
from typing import Any

from nanwatch.cli.local_server import Browser, LocalServer


class Served(LocalServer):
    """A server with someone signed in."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        super().__init__(data_dir, 0, *options)
        self.client = Browser(self.url, self.login_url)

    def points(self, run: str, layer: str = "", kind: str = "custom") -> list[float]:
        """Stored values of one series of a run, in order of their steps."""
        detail = self.client.get(f"/api/runs/{run}")
        ids = [s["id"] for s in detail["series"] if (s["kind"], s["layer"]) == (kind, layer)]
        if not ids:
            return []
        frame = self.client.get_bytes(f"/api/runs/{run}/series?ids={ids[0]}&buckets=20000")
        length = struct.unpack_from("<I", frame)[0]
        (entry,) = json.loads(frame[8 : 8 + length])["series"]
        start = 8 + length + entry["values"]
        return array("d", frame[start : start + 8 * entry["n"]]).tolist()

    def run(self, run: str) -> dict[str, Any]:
        """The detail of a run."""
        return self.client.get(f"/api/runs/{run}")
