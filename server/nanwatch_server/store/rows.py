"""Rows to domain objects and back; used by `reads` and `writes` only."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row

from nanwatch_server.domain.models import Coverage, JournalRow, Run, Series, Stream

T = TypeVar("T")

pack = msgspec.msgpack.encode


_decoders: dict[type, msgspec.msgpack.Decoder] = {}
_making = threading.Lock()


def unpack(data: bytes, kind: type[T]) -> T:
    """msgpack to a dataclass."""
    decoder = _decoders.get(kind)
    if decoder is None:
        # One thread at a time: msgspec (0.22) crashes the process when two decode a dataclass for
        # the first time together.
        with _making:
            decoder = _decoders.setdefault(kind, msgspec.msgpack.Decoder(kind))
    return decoder.decode(data)


def to_run(row: Row) -> Run:
    """A row of `runs`."""
    return Run(
        id=row.id,
        project=row.project,
        name=row.name,
        created_at=row.created_at,
        started_at=row.started_at,
        config=msgspec.msgpack.decode(row.config),
        facts=msgspec.msgpack.decode(row.facts),
        control=None if row.control is None else msgspec.msgpack.decode(row.control),
        last_seen_at=row.last_seen_at,
        last_step=row.last_step,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        exit_code=row.exit_code,
        coverage=None if row.coverage is None else unpack(row.coverage, Coverage),
    )


def to_series(row: Row) -> Series:
    """A row of `series`."""
    return Series(
        id=row.n,
        run_id=row.run_id,
        rank=row.rank,
        stage=row.stage,
        scope=row.scope,
        kind=row.kind,
        layer=row.layer,
    )


def to_journal(row: Row) -> JournalRow:
    """A row of `journal`."""
    return JournalRow(
        id=row.n,
        stream=Stream(run_id=row.run_id, rank=row.rank, epoch=row.epoch),
        lane=row.lane,
        first=row.first,
        last=row.last,
        at=row.at,
        frame=row.frame,
    )


def of_stream(stream: Stream) -> dict[str, Any]:
    """The columns that name a stream."""
    return {"run_id": stream.run_id, "rank": stream.rank, "epoch": stream.epoch}
