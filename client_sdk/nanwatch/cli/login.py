"""`nanwatch login`: a fresh one-time link for a browser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from nanwatch.cli.output import fail, has_desktop, program
from nanwatch.config import data_directory


def login(
    role: Annotated[str, typer.Option(help="view, respond, control or admin.")] = "admin",
    data_dir: Annotated[
        Path | None, typer.Option(help="Data directory of the running server.")
    ] = None,
    open_page: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open it in a browser.")
    ] = None,
) -> None:
    """Print a link that signs one browser in, once, within ten minutes."""
    directory = (data_dir or data_directory()).expanduser()
    try:
        server = json.loads((directory / "server.json").read_text())
        url, token = server["url"], server["admin_token"]
    except (OSError, ValueError, KeyError):
        fail(f"no running server in {directory}: start one with `{program()} serve`")
    request = urllib.request.Request(
        f"{url}/api/login-codes",
        method="POST",
        data=json.dumps({"role": role}).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "X-Nanwatch": "1",
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            link = json.load(answer)["login_url"]
    except urllib.error.HTTPError as error:
        fail(f"the server at {url} refused: {error.read().decode(errors='replace')[:500]}")
    except OSError as error:
        fail(f"the server at {url} does not answer ({error}): is it still running?")
    print(link)
    if open_page or (open_page is None and has_desktop()):
        webbrowser.open(link)
