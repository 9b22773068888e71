"""A stored run as bytes of a file, piece by piece: CSV, JSON lines or Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from nanwatch_server.domain.models import Run, RunMark
from nanwatch_server.domain.points import Points
from nanwatch_server.exporters import rows
from nanwatch_server.store.ordered import Moment, OrderedRun
from nanwatch_server.store.pieces import INFERRED, Pieces
from nanwatch_server.store.weave import weave

FORMATS = ("csv", "jsonl", "parquet")
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
PIECE_BYTES = 1 << 20
ROW_GROUP = 1 << 20
"""Values of one row group of Parquet."""

Progress = Callable[[int, int], None]


class ExportError(ValueError):
    """What was asked cannot be written; the text says what to do."""


class Export:
    """One run of one moment of the database. A context manager: it holds a connection."""

    def __init__(self, at: AbstractContextManager[Moment], run_id: str, format_: str) -> None:
        """`at`: `store.ordered.moment` of the database. Raises `ExportError`."""
        if format_ not in FORMATS:
            raise ExportError(f"expected a format of {', '.join(FORMATS)}; got {format_!r}")
        if format_ == "parquet":
            _parquet()
        self.format, self._at = format_, at
        reads = at.__enter__()
        found = reads.run(run_id)
        if found is None:
            self.close()
            raise ExportError(f"no run has the id {run_id}")
        self.run: Run = found
        self._ordered = OrderedRun(reads, run_id)

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._at.__exit__(None, None, None)

    @property
    def dropped(self) -> int:
        """Points of which only summaries are left: they cannot be exported."""
        return self._ordered.dropped

    def pieces(self, progress: Progress = lambda done, total: None) -> Iterator[bytes]:
        """The file, in order."""
        write = {"csv": self._csv, "jsonl": self._jsonl, "parquet": self._parquet_bytes}
        yield from write[self.format](progress)

    def _rounds(self, progress: Progress) -> Iterator[list[Points]]:
        done = 0
        for tables in self._ordered.rounds():
            yield tables
            done += sum(points.values.size for points in tables)
            progress(done, max(self._ordered.total, done))

    def _csv(self, progress: Progress) -> Iterator[bytes]:
        yield rows.CSV_HEADER.encode()
        for tables in self._rounds(progress):
            for points in tables:
                yield from _gathered(rows.csv_rows(points))

    def _jsonl(self, progress: Progress) -> Iterator[bytes]:
        yield rows.head_line(self.run).encode()
        marks = Pieces(self._ordered.marks())
        for tables in self._rounds(progress):
            for piece in marks.feed(tables):
                yield from _line_pieces(piece)
        for mark in marks.rest():
            yield rows.mark_line(mark).encode()

    def _parquet_bytes(self, progress: Progress) -> Iterator[bytes]:
        arrow, parquet = _parquet()
        told: dict[str, Any] = {"run": self.run.id, "project": self.run.project}
        told |= {"name": self.run.name, "config": {**self.run.facts, **self.run.config}}
        schema = arrow.schema(_columns(arrow), metadata={"nanwatch": json.dumps(told)})
        sink = _Sink()
        with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
            waiting: list[Points] = []
            for tables in self._rounds(progress):
                waiting += tables
                if sum(points.values.size for points in waiting) >= ROW_GROUP:
                    writer.write_table(_arrow_table(arrow, schema, waiting))
                    waiting = []
                    yield sink.taken()
            writer.write_table(_arrow_table(arrow, schema, waiting))
        yield sink.taken()


def _line_pieces(piece: list[Points] | RunMark) -> Iterator[bytes]:
    if isinstance(piece, RunMark):
        if piece.text != INFERRED:
            yield rows.mark_line(piece).encode()
        return
    for points in weave(piece, lambda one: (one.rank, one.stage)):
        yield from _gathered(rows.json_lines(points))


def _gathered(texts: Iterator[str]) -> Iterator[bytes]:
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= PIECE_BYTES:
            yield "".join(some).encode()
            some, size = [], 0
    if some:
        yield "".join(some).encode()


# --- Parquet -------------------------------------------------------------------------------------


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ExportError(
            f"Parquet needs the package pyarrow ({error.name} is missing): "
            "pip install 'nanwatch[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet


def _columns(arrow: Any) -> list[tuple[str, Any]]:
    word = arrow.dictionary(arrow.int32(), arrow.string())
    words = [(name, word) for name in ("stage", "scope", "kind", "layer")]
    return [*words, ("rank", arrow.int32()), ("step", arrow.int64()), ("time", arrow.float64()),
            ("value", arrow.float64())]  # fmt: skip


def _arrow_table(arrow: Any, schema: Any, tables: list[Points]) -> Any:
    """The long form, step by step within each table."""
    series = list(dict.fromkeys(one for points in tables for one in points.series))
    number = {one: at for at, one in enumerate(series)}
    which = [np.tile([number[one] for one in p.series], len(p.steps)) for p in tables]
    index = np.concatenate(which).astype(np.int64) if which else np.empty(0, np.int64)
    columns: list[Any] = []
    for name in ("stage", "scope", "kind", "layer"):
        words = sorted({getattr(one, name) for one in series})
        at = {word: place for place, word in enumerate(words)}
        place = np.array([at[getattr(one, name)] for one in series], np.int32)
        codes = arrow.array(place[index] if len(series) else np.empty(0, np.int32))
        columns.append(arrow.DictionaryArray.from_arrays(codes, arrow.array(words, arrow.string())))
    ranks = np.array([one.rank for one in series], np.int32)
    columns.append(arrow.array(ranks[index] if len(series) else np.empty(0, np.int32)))
    for make, dtype in (
        (lambda p: np.repeat(p.steps, len(p.series)), np.int64),
        (lambda p: np.repeat(p.times, len(p.series)), np.float64),
        (lambda p: p.values.T.reshape(-1), np.float64),
    ):
        parts = [make(points) for points in tables]
        whole = np.concatenate(parts) if parts else np.empty(0)
        columns.append(arrow.array(whole.astype(dtype, copy=False), from_pandas=False))
    return arrow.Table.from_arrays(columns, schema=schema)


class _Sink(io.RawIOBase):
    """Where Parquet is written to: remembers how much, keeps only what was not taken yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
