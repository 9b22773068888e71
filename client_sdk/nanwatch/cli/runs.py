"""`nanwatch runs list | delete | pin`: asks the server of this user, which must be running."""

from __future__ import annotations

import urllib.parse
from pathlib import Path
from typing import Annotated

import typer

from nanwatch.cli.admin import call
from nanwatch.cli.output import console

app = typer.Typer(help="List, delete and pin runs.", no_args_is_help=True)

PAGE = 200

DataDir = Annotated[Path | None, typer.Option(help="Of the server. Default: NANWATCH_DATA_DIR.")]


@app.command("list")
def listed(
    query: Annotated[str, typer.Argument(help="Part of a name, project or id.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    data_dir: DataDir = None,
) -> None:
    """Runs, newest first."""
    shown, after = 0, ""
    while shown < limit:
        asked = {"q": query, "limit": min(PAGE, limit - shown), "after": after}
        page = call(data_dir, "GET", "/api/runs?" + urllib.parse.urlencode(asked))
        for run in page["runs"]:
            print(f"{run['id']}  {run['status']:<8}{run['project']}/{run['name']}")
        shown += len(page["runs"])
        after = page["next"]
        if not after:
            break


@app.command("delete")
def delete(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    force: Annotated[bool, typer.Option(help="Also while its training is connected.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete a run for good. What its training still sends is refused."""
    found = call(data_dir, "GET", _path(run))
    name = f"{found['project']}/{found['name']}"
    if not yes and not typer.confirm(f"Delete {name} ({found['id'][:8]}) for good?"):
        raise SystemExit(1)
    call(data_dir, "DELETE", f"{_path(run)}?force={'true' if force else 'false'}")
    console.print(f"nanwatch: {name} is deleted", markup=False)


@app.command("pin")
def pin(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    off: Annotated[bool, typer.Option("--off", help="Take the pin away.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Keep every point of a run, whatever the retention of its project says."""
    call(data_dir, "DELETE" if off else "PUT", f"{_path(run)}/pin")


def _path(run: str) -> str:
    return f"/api/runs/{urllib.parse.quote(run, safe='')}"
