"""`nanwatch notify list | add | test | remove`: channels of the server of this user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nanwatch.cli.admin import call
from nanwatch.cli.output import console, fail

app = typer.Typer(
    help="Where incidents are told: chat, mail, phone, webhooks.", no_args_is_help=True
)

API = "/api/notifications"

DataDir = Annotated[Path | None, typer.Option(help="Of the server. Default: NANWATCH_DATA_DIR.")]
Name = Annotated[str, typer.Argument(help="Name of the channel.")]


@app.command("list")
def listed(data_dir: DataDir = None) -> None:
    """Channels and what goes to them."""
    known = call(data_dir, "GET", API)
    for one in known["channels"]:
        off = "" if one["enabled"] else "  (off)"
        print(f"{one['name']}  {one['service']}  {one['shown']}{off}")
        for route in known["routes"]:
            if route["channel_id"] == one["id"]:
                print(f"  {_words(route)}")
    if not known["channels"]:
        console.print("nanwatch: there are no channels yet: nanwatch notify add", markup=False)


@app.command("add")
def add(
    name: Name,
    url: Annotated[
        str,
        typer.Argument(
            help="https://… of Slack, Discord, Teams or your own program, or an apprise address; "
            "- reads it from standard input, so that it is in no history."
        ),
    ],
    critical: Annotated[bool, typer.Option("--critical", help="Critical incidents only.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Add a channel that is told incidents of every project; the page has the rest."""
    if url == "-":
        url = sys.stdin.readline().strip()
    body = {"name": name, "url": url, "min_severity": "critical" if critical else "warning"}
    made = call(data_dir, "POST", f"{API}/channels", body)
    console.print(f"nanwatch: {made['name']} is added ({made['service']})", markup=False)
    if made["signing_key"]:
        console.print("  signing key of its messages, shown this once:", markup=False)
        print(made["signing_key"])


@app.command("test")
def test(name: Name, data_dir: DataDir = None) -> None:
    """Send a sample message now and say what became of it."""
    channel = _channel(data_dir, name)
    done = call(data_dir, "POST", f"{API}/channels/{channel['id']}/test", {})
    if not done["ok"]:
        fail(f"not delivered: {done['error']}")
    console.print(f"nanwatch: delivered after {done['seconds']} s", markup=False)


@app.command("remove")
def remove(name: Name, data_dir: DataDir = None) -> None:
    """Delete a channel and its routes."""
    channel = _channel(data_dir, name)
    call(data_dir, "DELETE", f"{API}/channels/{channel['id']}", {})
    console.print(f"nanwatch: {name} is deleted", markup=False)


def _channel(data_dir: Path | None, name: str) -> dict[str, Any]:
    channels = call(data_dir, "GET", API)["channels"]
    found = next((one for one in channels if one["name"] == name), None)
    if found is None:
        names = ", ".join(one["name"] for one in channels) or "none"
        fail(f"there is no channel {name!r}; there are: {names}")
    return found


def _words(route: dict[str, Any]) -> str:
    quiet = route["quiet"]
    parts = [
        f"project {route['project']}" if route["project"] else "every project",
        "critical only" if route["min_severity"] == "critical" else "caution and critical",
        "also when it is over" if route["resolved"] else "",
        f"quiet {quiet['start']} to {quiet['end']} {quiet['zone']}" if quiet else "",
        "" if route["enabled"] else "off",
    ]
    return ", ".join(part for part in parts if part)
