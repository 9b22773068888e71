"""Asks the running server of this user, as its admin. Used by `nanwatch runs` and `notify`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from nanwatch import local_server
from nanwatch.cli.output import fail, program
from nanwatch.config import data_directory

TIMEOUT_S = 100.0
"""A message that is sent by a test may take that long."""


def call(data_dir: Path | None, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """JSON of an API route; ends the program with the server's own words if it says no."""
    found = local_server.alive((data_dir or data_directory()).expanduser())
    if found is None:
        fail(f"no server of this user runs: start one with `{program()} serve --detach`")
    request = urllib.request.Request(
        found.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {found.admin_token}",
            "Content-Type": "application/json",
            "X-Nanwatch": "1",
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read(10_000).decode(errors="replace")
        try:
            text = json.loads(text)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            pass
        fail(text)
    except OSError as error:
        fail(f"no answer of the server at {found.url}: {error}")
