"""`nanwatch export`: the points of a stored run as a file, bit for bit.

Straight from the database of this machine, whether a server runs or not; with `--server` from
another one's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from nanwatch.cli.output import byte_bar, console, fail, server_part_missing
from nanwatch.cli.target import Answer, Target, ask
from nanwatch.config import data_directory

if TYPE_CHECKING:
    from nanwatch_server.store.ordered import Moment

COPY_BYTES = 1 << 20
SHOWN = 10
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")


def export(
    run: Annotated[str, typer.Argument(help="Id of a run, its beginning, or its name.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="csv|jsonl|parquet", help="Of the file.")
    ] = "csv",
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Default: the run's name; - is standard output.")
    ] = "",
    data_dir: Annotated[
        Path | None, typer.Option(help="Where runs are stored. Default: NANWATCH_DATA_DIR.")
    ] = None,
    server: Annotated[str, typer.Option(help="Of another machine instead: its address.")] = "",
    token: Annotated[
        str | None, typer.Option(help="Of role view, with --server. Default: NANWATCH_TOKEN.")
    ] = None,
) -> None:
    """Write every point of a run: exactly as stored, NaN and infinities included.

    JSON lines also hold marks and configuration. `nanwatch import` reads each format back.
    """
    if format_ not in ("csv", "jsonl", "parquet"):
        fail(f"expected --format csv, jsonl or parquet, got {format_!r}")
    if server:
        _remote(Target(server.rstrip("/"), token or os.environ.get("NANWATCH_TOKEN") or ""), run,
                format_, out)  # fmt: skip
        return
    _local((data_dir or data_directory()).expanduser(), run, format_, out)


def _local(directory: Path, run: str, format_: str, out: str) -> None:
    try:
        from nanwatch_server.exporters.formats import Export, ExportError
        from nanwatch_server.store.base import StoreError
        from nanwatch_server.store.ordered import moment
    except ImportError as error:
        server_part_missing(error)
    try:
        with engine_of(directory) as engine:
            with moment(engine) as reads:
                found = chosen(reads, run)
            with (
                Export(moment(engine), found.id, format_) as made,
                _target(out, found.name, format_) as file,
                byte_bar(f"exporting {found.name}", 1) as advance,
            ):
                for piece in made.pieces(advance):
                    file.write(piece)
                dropped = made.dropped
    except (ExportError, StoreError) as error:
        fail(str(error))
    if dropped:
        _say(f"{dropped:,} points are left out: retention kept only their summaries")


@contextmanager
def engine_of(directory: Path) -> Iterator[Any]:
    """The database of this machine, for reading. Raises `StoreError`."""
    from nanwatch_server.settings import Settings
    from nanwatch_server.store.sql import reading_database

    database = Settings(data_dir=directory).database.get_secret_value()
    with reading_database(directory, database) as engine:
        yield engine


def chosen(reads: Moment, said: str) -> Any:
    """The run that is meant: by id, by the beginning of an id, or by name."""
    found = reads.run(said)
    if found is not None:
        return found
    listed, _ = reads.runs(query=said, limit=200)
    exact = [one for one in listed if one.name == said]
    alike = exact or [one for one in listed if one.id.startswith(said)] or listed
    if not alike:
        fail(f"no run is called {said!r} and no id begins so; see `nanwatch runs list`")
    if len(alike) > 1:
        names = "\n".join(f"  {one.id}  {one.project}/{one.name}" for one in alike[:SHOWN])
        fail(f"{said!r} may be {len(alike)} runs; say the id:\n{names}")
    return alike[0]


def _remote(target: Target, run: str, format_: str, out: str) -> None:
    query = urllib.parse.urlencode({"q": run, "limit": 200})
    try:
        with ask(target, f"/api/runs?{query}") as answer:
            listed = json.load(answer)["runs"]
        exact = [one for one in listed if run in (one["id"], one["name"])] or listed
        if len(exact) != 1:
            names = "\n".join(
                f"  {one['id']}  {one['project']}/{one['name']}" for one in exact[:SHOWN]
            )
            fail(f"{run!r} is {len(exact)} runs of {target.url}; say the id:\n{names}")
        found = exact[0]
        path = f"/api/runs/{found['id']}/export?format={format_}"
        with ask(target, path) as answer, _target(out, found["name"], format_) as file:
            shutil.copyfileobj(answer, file, COPY_BYTES)
    except Answer as error:
        fail(f"{target.url} refused ({error.status}): {error}")
    except OSError as error:
        fail(f"no answer of {target.url}: {error}")


@contextmanager
def _target(out: str, name: str, format_: str) -> Iterator[IO[bytes]]:
    """Where the file goes; it gets its name when it is whole."""
    if out == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(out or f"{_UNSAFE.sub('_', name)}.{format_}").expanduser()
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _say(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")


def _say(text: str) -> None:
    console.print(f"nanwatch: {text}", markup=False, soft_wrap=True)
