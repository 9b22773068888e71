"""`nanwatch serve`: the server in the foreground or detached, with the links a person needs."""

from __future__ import annotations

import json
import os
import shlex
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from nanwatch.cli import detached
from nanwatch.cli.output import console, fail, has_desktop, program, server_part_missing
from nanwatch.config import data_directory

PORT = 8787


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = PORT,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is stored. Default: NANWATCH_DATA_DIR.")
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            help="postgresql://user@host/name instead of SQLite in the data directory. "
            "Default: NANWATCH_DATABASE."
        ),
    ] = "",
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Another name:port under which browsers reach us.")
    ] = None,
    public_url: Annotated[
        str,
        typer.Option(
            envvar="NANWATCH_PUBLIC_URL",
            help="Address for links in notifications, if not the one listened on.",
        ),
    ] = "",
    allow_local_webhooks: Annotated[
        bool,
        typer.Option(
            "--allow-local-webhooks",
            envvar="NANWATCH_ALLOW_LOCAL_WEBHOOKS",
            help="Notifications may go to this machine and to private networks.",
        ),
    ] = False,
    open_page: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = None,
    detach: Annotated[
        bool, typer.Option(help="Run in the background until --stop or a day without use.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the server of this directory.")] = False,
    idle_hours: Annotated[
        float, typer.Option(min=0, help="End after so many hours without use; 0: never.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
    ready_file: Annotated[Path | None, typer.Option(hidden=True)] = None,
    insecure_http: Annotated[
        bool, typer.Option(help="Allow a host other than loopback without TLS.")
    ] = False,
) -> None:
    """Start the server: stores, detects, shows, takes commands. Ctrl-C stops it."""
    directory = (data_dir or data_directory()).expanduser().absolute()
    if stop:
        detached.stop(directory)
        return
    if detach:
        if host != "127.0.0.1" or database or allowed_host or idle_hours or insecure_http:
            fail("--detach goes with --port and --data-dir only: it serves 127.0.0.1 for a day")
        # The other process reads them there.
        os.environ["NANWATCH_PUBLIC_URL"] = public_url
        os.environ["NANWATCH_ALLOW_LOCAL_WEBHOOKS"] = str(int(allow_local_webhooks))
        detached.start(directory, port, as_json=as_json)
        return
    try:
        from pydantic import SecretStr

        from nanwatch_server.app import run_server
        from nanwatch_server.settings import Settings
    except ImportError as error:
        server_part_missing(error)
    if host not in ("127.0.0.1", "localhost", "::1") and not insecure_http:
        fail(
            f"refusing to listen on {host} without TLS: use an SSH forward "
            f"(ssh -L {port}:127.0.0.1:{port} this-machine), a TLS proxy, or --insecure-http"
        )
    try:
        settings = Settings(
            data_dir=directory,
            host=host,
            port=port,
            allowed_hosts=tuple(allowed_host or ()),
            idle_s=idle_hours * 3600.0,
            public_url=public_url,
            allow_local_webhooks=allow_local_webhooks,
        )
        if database:
            settings = settings.model_copy(update={"database": SecretStr(database)})
    except ValueError as error:
        fail(f"a setting is not right (options, or NANWATCH_… in the environment): {error}")

    def ready(info: Any) -> None:
        _announce(info, directory)
        if ready_file is not None:
            _write(ready_file, {"url": info.url, "login_url": info.login_url, "pid": os.getpid()})
        if open_page or (open_page is None and has_desktop() and ready_file is None):
            webbrowser.open(info.login_url)

    try:
        run_server(settings, on_ready=ready)
    except OSError as error:
        fail(
            f"cannot listen on {host}:{port}: {error.strerror or error}. "
            "Is another server running? Choose another port with --port."
        )
    except RuntimeError as error:
        fail(str(error))


def _announce(info: Any, directory: Path) -> None:
    ready = Text.assemble(("nanwatch", "bold"), f" is ready at {info.url}  (data: {directory})")
    console.print(ready, soft_wrap=True)
    console.print(f"  open once:  {info.login_url}", soft_wrap=True)
    where = "" if directory == data_directory() else f" --data-dir {shlex.quote(str(directory))}"
    console.print(
        f"  another link, later or for another browser:  {program()} login{where}",
        soft_wrap=True,
        markup=False,
    )
    console.print(
        f"  trainings of this user find the server by themselves; elsewhere set\n"
        f"  export NANWATCH_URL={info.url} NANWATCH_TOKEN={info.ingest_token}",
        soft_wrap=True,
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(content))
    os.replace(part, path)
