"""`nanwatch db …`: looks after the database of a server that does not run. The work is done by
`nanwatch_server.store`; here are options, progress and messages.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nanwatch.cli.output import console, fail, progress_bar, server_part_missing

app = typer.Typer(help="Look after the database.", no_args_is_help=True)


@app.command("move")
def move(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A data directory, or postgresql://…")
    ],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="An empty or new one of the other kind.")
    ],
) -> None:
    """Copy everything from one database into another, and compare them at the end.

    Stop the server first. A move that was cut short is finished by calling it again.
    """
    try:
        from nanwatch_server.store.move import Moved, move_database
    except ImportError as error:
        server_part_missing(error)
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        try:
            moved: Moved = move_database(source, target, progress)
        except RuntimeError as error:
            bar.stop()
            fail(str(error))
    for name, rows in moved.rows.items():
        if rows:
            console.print(f"  {name:<14}{rows:>12,} rows", markup=False)
    console.print(
        f"nanwatch: moved, and equal on both sides: {sum(moved.rows.values()):,} rows, "
        f"{moved.runs:,} runs. The source is left as it is.",
        markup=False,
        soft_wrap=True,
    )
