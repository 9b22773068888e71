"""`nanwatch import`: a log of somebody becomes a run on the server, with its incidents.

Rows go as records of wire v1 over `/ingest/v1/frames`, one record a row, numbered from the start of
the log: sent again, or continued when the log has grown, each is stored once.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanwatch.cli.output import byte_bar, console, fail, server_part_missing
from nanwatch.cli.target import Answer, Target, post_patiently, target_of
from nanwatch.contract import frames, limits, lines

if TYPE_CHECKING:
    from nanwatch_server.importers.rows import Item, Row
    from nanwatch_server.importers.source import Source

PATH = "/ingest/v1/frames"
TYPE = "application/x-msgpack"
BATCH_BYTES = 256 << 10
BODY_BYTES = 4 << 20
"""A body may hold twice as much."""
DECLARED_AT_ONCE = 500
RECORD_BYTES = 64
"""About what a record takes beside its values."""
GIVE_UP_S = 60.0
_LENGTH = struct.Struct("<I")


def import_(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            help="JSON lines, CSV, TensorBoard event files, trainer_state.json, an export, or a "
            "folder of them.",
        ),
    ],
    project: Annotated[str, typer.Option(help="Project of the run.")] = "default",
    name: Annotated[
        str, typer.Option(help="Name of the run. Default: that of the file or folder.")
    ] = "",
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=KIND[:scope]", help="What a column is; as for check."),
    ] = None,
    server: Annotated[str | None, typer.Option(help="Address. Default: NANWATCH_URL.")] = None,
    token: Annotated[str | None, typer.Option(help="Default: NANWATCH_TOKEN.")] = None,
) -> None:
    """Store logs as runs, so that the page shows them with their incidents.

    Each point is stored once, however often the same log is imported; a log that has grown is
    continued.
    """
    try:
        from nanwatch_server.importers.discover import find
        from nanwatch_server.importers.names import MapError, given
        from nanwatch_server.importers.source import Options, UnusableError
    except ImportError as error:
        server_part_missing(error)
    try:
        told = tuple(given(one) for one in mapping or ())
        stand_in = lambda path: path.stat().st_mtime  # noqa: E731
        found = find(target.expanduser(), Options(told=told, stand_in=stand_in))
    except (MapError, UnusableError, OSError) as error:
        fail(str(error), 2)
    for why in found.passed_over:
        _say(f"passed over: {why}")
    if name and len(found.sources) > 1:
        runs = ", ".join(source.name for source in found.sources)
        fail(f"--name goes with one run, {target} holds {len(found.sources)}: {runs}", 2)
    to = target_of(server, token)
    failed = 0
    for source in found.sources:
        try:
            _one(source, name or source.name, project, to)
        except (UnusableError, Answer, OSError) as error:
            failed += 1
            _say(f"{source.name}: not imported: {error}")
    if failed:
        raise SystemExit(1)


def _one(source: Source, name: str, project: str, to: Target) -> None:
    with byte_bar(f"importing {name}", source.size) as advance:
        sending = _Sending(source, name, project, to)
        for items in source.read():
            sending.take(items)
            advance(source.done)
        sending.take(source.finish())
        sending.finish()
    problems = source.problems
    for text in problems.shown:
        _say(f"{name}: {text}")
    if problems.count > len(problems.shown):
        _say(f"{name}: {problems.count} problems in all; what could be read was imported")
    known = f", {sending.known:,} rows were there already" if sending.known else ""
    refused = f"; refused: {sending.refused[0]}" if sending.refused else ""
    _say(f"{name}: {sending.points:,} points stored{known}{refused}  {sending.url}")
    if sending.refused:
        raise OSError("the server refused some rows")


def _say(text: str) -> None:
    console.print(f"nanwatch: {text}", markup=False, soft_wrap=True)


class _Stream:
    """Records of one rank, numbered from 0."""

    def __init__(self, rank: int, run_id: str) -> None:
        self.rank = rank
        self.epoch = lines.epoch_of(f"import:{run_id}:{rank}")
        self.next = 0
        """Number of the next record."""
        self.stored = -1
        """Highest number that the server has."""
        self.greeted = False
        self.first = 0
        self.records: list[frames.Record] = []
        self.size = 0
        self.declared = 0
        """Series of the source up to this one are declared."""


class _Sending:
    """One run on its way to the server."""

    def __init__(self, source: Source, name: str, project: str, to: Target) -> None:
        self._source, self._name, self._project, self._to = source, name, project, to
        self._run_id = ""
        self._began = 0.0
        self._waiting: list[Item] = []
        """Marks before the first row: the row names the run."""
        self._streams: dict[int, _Stream] = {}
        self.points = self.known = 0
        self.refused: list[str] = []
        self.url = ""

    def take(self, items: Iterable[Item]) -> None:
        """Send more of the log."""
        items = [*self._waiting, *items]
        self._waiting = []
        if not self._run_id:
            row = next((one for one in items if not isinstance(one, frames.Mark)), None)
            if row is None:
                self._waiting = items
                return
            self._name_run(row)
        for item in items:
            self._item(item)

    def finish(self) -> None:
        """The end of the log. Raises `UnusableError` if it held no point."""
        if not self._run_id:
            from nanwatch_server.importers.source import UnusableError

            raise UnusableError("it holds no point")
        for stream in self._streams.values():
            bye = []
            if stream.rank == 0:
                last = stream.next - 1
                bye = [frames.encode(frames.Bye(events=-1, scalars=last, reason="imported"))]
            self._send(stream, bye)

    def _name_run(self, row: Row) -> None:
        """The run's id follows from its name and its first row: the same log again is the same
        run, another log of the same name another one."""
        series = [self._source.rows.series[one] for one in row.ids]
        names = [(one.rank, one.stage, one.scope, one.kind, one.layer) for one in series]
        values = struct.pack(f"<{len(row.values)}d", *row.values)
        said = f"{sorted(names)}:{row.step}:{values.hex()}"
        print_ = hashlib.sha256(said.encode()).hexdigest()[:16]
        self._run_id = lines.run_id_of(self._project, f"{self._name[:100]}@{print_}")
        self._began = row.time

    def _item(self, item: Item) -> None:
        if isinstance(item, frames.Mark):
            stream = self._stream(0)
            size = 256 + sum(len(k) + len(v) for k, v in item.data.items())
            self._add(stream, item, size, 0)
            return
        stream = self._stream(item.rank)
        for start in range(0, len(item.ids), limits.TABLE_SERIES_MAX):
            cut = slice(start, start + limits.TABLE_SERIES_MAX)
            ids, values = list(item.ids[cut]), item.values[cut]
            table = frames.Table(
                ids=ids,
                steps=struct.pack("<q", item.step),
                times=struct.pack("<d", item.time),
                values=struct.pack(f"<{len(ids)}d", *values),
            )
            self._add(stream, table, 12 * len(ids) + RECORD_BYTES, len(ids))

    def _stream(self, rank: int) -> _Stream:
        if rank not in self._streams:
            stream = self._streams[rank] = _Stream(rank, self._run_id)
            stream.stored = self._post(stream, [])
        return self._streams[rank]

    def _add(self, stream: _Stream, record: frames.Record, size: int, points: int) -> None:
        number = stream.next
        stream.next += 1
        if number <= stream.stored:
            self.known += points > 0
            return
        if not stream.records:
            stream.first = number
        stream.records.append(record)
        stream.size += size
        self.points += points
        if stream.size >= BODY_BYTES:
            self._send(stream, [])

    def _send(self, stream: _Stream, more: list[bytes]) -> None:
        """What waits, after the series it needs."""
        encoded = [frames.encode(frame) for frame in self._frames(stream)]
        if encoded or more:
            self._post(stream, [*encoded, *more])

    def _frames(self, stream: _Stream) -> Iterator[frames.ClientFrame]:
        series = self._source.rows.series
        fresh = [
            frames.SeriesDecl(one.id, one.kind, one.scope, one.layer, one.stage)
            for one in series[stream.declared :]
            if one.rank == stream.rank
        ]
        stream.declared = len(series)
        for low in range(0, len(fresh), DECLARED_AT_ONCE):
            yield frames.Declare(series=fresh[low : low + DECLARED_AT_ONCE])
        records, first = stream.records, stream.first
        stream.records, stream.size = [], 0
        some: list[frames.Record] = []
        size = 0
        for record in records:
            some.append(record)
            size += RECORD_BYTES + (12 * len(record.ids) if isinstance(record, frames.Table) else 0)
            if size >= BATCH_BYTES or len(some) == limits.BATCH_RECORDS_MAX:
                yield frames.Batch(lane="scalars", first=first, records=some)
                first, some, size = first + len(some), [], 0
        if some:
            yield frames.Batch(lane="scalars", first=first, records=some)

    def _post(self, stream: _Stream, encoded: list[bytes]) -> int:
        """Send frames after a hello; the highest number that is stored then."""
        body = b"".join(
            _LENGTH.pack(len(frame)) + frame for frame in [self._hello(stream), *encoded]
        )
        told: dict[str, Any] = post_patiently(self._to, PATH, body, TYPE, GIVE_UP_S)
        self.refused += [str(one["message"]) for one in told.get("rejected", ())]
        self.url = str(told.get("url", ""))
        return int(told.get("scalars", -1))

    def _hello(self, stream: _Stream) -> bytes:
        none = frames.Span(0, -1)
        facts = {"imported": self._source.format, "file": self._source.path.name}
        return frames.encode(
            frames.Hello(
                proto=[limits.PROTOCOL_VERSION],
                sdk="import",
                run=frames.RunInfo(
                    id=self._run_id,
                    project=self._project,
                    name=self._name,
                    started_at=self._began,
                    config=self._source.config,
                    facts=facts,
                ),
                rank=stream.rank,
                # Each rank by itself: nothing is to be combined that was combined once.
                world=1,
                epoch=stream.epoch,
                wall=time.time(),
                events=none,
                scalars=none,
            )
        )
