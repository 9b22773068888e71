"""`nanwatch db backup | restore | verify | vacuum | retention`: options, progress and messages.

The work is done by `nanwatch_server.store`. Backup and verify also work while the server runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nanwatch.cli.db import app
from nanwatch.cli.output import console, fail, progress_bar, server_part_missing
from nanwatch.config import data_directory

__all__ = ["app"]

DataDir = Annotated[
    Path | None, typer.Option(help="Where the database lies. Default: NANWATCH_DATA_DIR.")
]


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of several things, one bar each; errors of the store leave with their words."""
    tasks: dict[str, Any] = {}
    with progress_bar() as bar:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        try:
            yield show
        except ImportError as error:
            bar.stop()
            server_part_missing(error)
        except (RuntimeError, ValueError) as error:
            bar.stop()
            fail(str(error))


def _directory(data_dir: Path | None) -> Path:
    return (data_dir or data_directory()).expanduser()


@app.command("backup")
def backup(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Default: backups in the data directory.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a verified backup, also while the server runs. Prints its path."""
    place = _directory(data_dir)
    with _bars() as progress:
        from nanwatch_server.store.backup import make_backup

        made = make_backup(place, directory or place / "backups", time.time(), progress)
    print(made)


@app.command("restore")
def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="A file made by `db backup`.")],
    data_dir: DataDir = None,
) -> None:
    """Put a backup in the place of the database. Stop the server first.

    The old database is kept beside it, until you delete it.
    """
    with _bars() as progress:
        from nanwatch_server.store.backup import restore

        aside = restore(backup, _directory(data_dir), time.time(), progress)
    console.print(f"nanwatch: restored; the old database lies in {aside}", markup=False)


@app.command("verify")
def verify(data_dir: DataDir = None) -> None:
    """Check every row: integrity, chunks, summaries, journal, audit. Exit code 1 if one is bad."""
    with _bars() as progress:
        from nanwatch_server.store.verify import verify_directory

        found = verify_directory(_directory(data_dir), progress)
    for problem in found.problems:
        console.print(f"  {problem}", markup=False, soft_wrap=True)
    if found.problems:
        fail(f"{len(found.problems) + found.more} problems were found")
    console.print(
        f"nanwatch: all is well: {found.points:,} points, {found.dropped:,} of which only "
        "summaries are kept",
        markup=False,
    )


@app.command("vacuum")
def vacuum(data_dir: DataDir = None) -> None:
    """Give free space back to the disk at once. Stop the server first."""
    with _bars():
        from nanwatch_server.store.backup import vacuum

        before, after = vacuum(_directory(data_dir))
    console.print(f"nanwatch: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now")


@app.command("retention")
def retention(
    project: Annotated[str, typer.Argument(help="Name of the project.")] = "",
    days: Annotated[
        str, typer.Argument(metavar="DAYS|never", help="Keep points so long, or for ever.")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Show or set how long points of a project are kept one by one; summaries always stay.

    Setting it needs the server to be stopped; without arguments all rules are shown.
    """
    if bool(project) != bool(days):
        fail("expected a project and a number of days (or never), or neither to see all rules")
    with _bars():
        from nanwatch_server.settings import Settings
        from nanwatch_server.store import retention
        from nanwatch_server.store.sql import SqlStore

        settings = Settings(data_dir=_directory(data_dir))
        default = settings.retention_days or None
        database = settings.database.get_secret_value()
        if days or database:
            store = SqlStore(settings.data_dir, database)
            try:
                if days:
                    retention.keep(store, project, None if days == "never" else _days(days))
                found = sorted(retention.kept(store, default).items())
            finally:
                store.close()
        else:
            found = retention.rules(settings.data_dir, default)
        for name, rule in found:
            said = "for ever" if rule.days is None else f"{rule.days:g} days"
            whose = "" if rule.own else "  (default)"
            console.print(f"  {name:<32}{said}{whose}", markup=False)


def _days(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        fail(f"expected a number of days or never, got {text!r}")
