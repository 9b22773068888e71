"""What a client may send: pure checks, before anything waits for the database.

A record that fails is refused alone, with a code and a sentence; the rest of its batch goes on.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Set
from typing import Any, NamedTuple

import msgspec
import numpy as np

from nanwatch.contract import limits
from nanwatch.contract.frames import (
    LANES,
    Batch,
    CheckpointSaved,
    CommandResult,
    Forensics,
    FrameError,
    Hello,
    Mark,
    NonFinite,
    Problem,
    Record,
    RunInfo,
    SeriesDecl,
    Table,
    table_shape,
)

SEQ_MAX = limits.STEP_MAX
EPOCH_MAX = (1 << 53) - 1
_RANK_MAX = 1 << 20
_WORLD_MAX = 1 << 16
"""Processes of one training: four times the largest that are published."""
LISTED_MAX = 32
"""Layers or modules that one report may name, by the contract."""
FEW = 16
"""So many numbers are looked at faster without numpy: trainings often send one row at a time."""
FACTS_MAX = 256
"""Facts of one report, and measurements of one coverage mark."""
COVERAGE_CHARS_MAX = 500


class Bad(NamedTuple):
    """Why a record is refused."""

    seq: int
    code: str
    message: str


class Loose(NamedTuple):
    """A batch of which some records are not of wire v1."""

    lane: str
    first: int
    records: list[Record | Bad]


def hello_problem(hello: Hello) -> str | None:
    """Why this hello is not taken; None if it is."""
    info, rank, epoch, world = hello.run, hello.rank, hello.epoch, hello.world
    if not limits.is_run_id(info.id):
        return f"expected a run id of 32 hexadecimal digits, got {info.id[:64]!r}"
    if not 0 <= rank <= _RANK_MAX or not 0 <= epoch <= EPOCH_MAX:
        return f"expected a rank from 0 and an epoch of 53 bits, got {rank} and {epoch}"
    if not 1 <= world <= _WORLD_MAX or (world > 1 and rank >= world):
        return f"expected 1 to {_WORLD_MAX} ranks, numbered from 0, got rank {rank} of {world}"
    if not 0 <= hello.generation <= limits.STEP_MAX:
        return f"expected a number of restarts from 0, got {hello.generation}"
    if not math.isfinite(info.started_at):
        return f"expected a finite start time, got {info.started_at}"
    return None


def tidy_info(info: RunInfo) -> RunInfo:
    """Names of allowed characters, texts of allowed length."""
    return msgspec.structs.replace(
        info,
        project=limits.to_name(info.project),
        name=limits.to_name(info.name),
        config=_texts(info.config),
        facts=_texts(info.facts),
    )


def _texts(texts: dict[str, str]) -> dict[str, str]:
    return {
        key[: limits.NAME_CHARS_MAX]: value[: limits.TEXT_BYTES_MAX]
        for key, value in list(texts.items())[:4096]
    }


def usable_declarations(decls: list[SeriesDecl], known: int) -> list[SeriesDecl]:
    """The declarations that can be taken; records using others are refused one by one."""
    room = max(limits.SERIES_PER_RUN_MAX - known, 0)
    return [decl for decl in decls if 0 <= decl.id <= limits.STEP_MAX][:room]


def tidy_declarations(decls: list[SeriesDecl]) -> list[SeriesDecl]:
    """Names of allowed characters. Slow for thousands: not in the event loop."""
    return [
        SeriesDecl(
            decl.id,
            limits.to_name(decl.kind),
            limits.to_name(decl.scope) if decl.scope else "",
            limits.to_name(decl.layer) if decl.layer else "",
            limits.to_name(decl.stage),
        )
        for decl in decls
    ]


def loosely(data: bytes) -> Loose | str | None:
    """A frame that wire v1 cannot read: a batch with bad records, the name of an unknown frame, or
    None if it is no frame at all."""
    try:
        raw = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("t"), str):
        return None
    lane, first, records = raw.get("lane"), raw.get("first"), raw.get("records")
    if raw["t"] != "batch":
        return raw["t"]
    if lane not in LANES or type(first) is not int or not isinstance(records, list):
        return None
    return Loose(lane, first, [_one(record, first + i) for i, record in enumerate(records)])


def _one(raw: Any, seq: int) -> Record | Bad:
    try:
        return msgspec.convert(raw, Record)
    except (msgspec.ValidationError, RecursionError) as error:
        return Bad(seq, "unsupported", f"expected a record of wire v1: {error}"[:500])


def batch_problem(lane: str, first: int, count: int) -> str | None:
    """Why the whole batch breaks the protocol; None if it does not."""
    if not 0 < count <= limits.BATCH_RECORDS_MAX:
        return f"expected 1 to {limits.BATCH_RECORDS_MAX} records in a batch, got {count}"
    if lane not in LANES or not 0 <= first <= SEQ_MAX - count:
        return f"expected a sequence number from 0, got {first}"
    return None


def bad_records(batch: Batch, declared: Set[int]) -> list[Bad]:
    """Records that cannot be stored."""
    found = []
    for i, record in enumerate(batch.records):
        why = _table_problem(record, declared) if type(record) is Table else _problem(record)
        if why is not None:
            found.append(Bad(batch.first + i, *why))
    return found


def _table_problem(table: Table, declared: Set[int]) -> tuple[str, str] | None:
    try:
        k, n = table_shape(table)
    except FrameError as error:
        return "shape", str(error)
    if not 0 < k <= limits.TABLE_SERIES_MAX or not 0 < n <= limits.TABLE_ROWS_MAX:
        most = f"{limits.TABLE_SERIES_MAX} series and 1 to {limits.TABLE_ROWS_MAX} rows"
        return "shape", f"expected 1 to {most}, got {k} and {n}"
    ids = set(table.ids)
    if len(ids) != k or not ids <= declared:
        unknown = [wire_id for wire_id in table.ids if wire_id not in declared]
        return "undeclared", f"expected distinct declared series, got {(unknown or table.ids)[:5]}"
    low, high = _reach(table.steps, n)
    if low < 0 or high > limits.STEP_MAX:
        return "step", f"expected steps from 0 to 2^53 - 1, got {low} to {high}"
    if not _finite(table.times, n):
        return "time", "expected finite times in seconds"
    return None


def _reach(steps: bytes, n: int) -> tuple[int, int]:
    """Least and greatest step."""
    if n <= FEW:
        few = struct.unpack(f"<{n}q", steps)
        return min(few), max(few)
    many = np.frombuffer(steps, "<i8")
    return int(many.min()), int(many.max())


def _finite(times: bytes, n: int) -> bool:
    if n <= FEW:
        return all(map(math.isfinite, struct.unpack(f"<{n}d", times)))
    return bool(np.isfinite(np.frombuffer(times, "<f8")).all())


def _problem(record: Record) -> tuple[str, str] | None:
    if not math.isfinite(record.time):  # type: ignore[union-attr]
        return "time", "expected a finite time in seconds"
    step = getattr(record, "step", 0)
    if not -1 <= step <= limits.STEP_MAX:
        return "step", f"expected a step from 0 to 2^53 - 1, got {step}"
    texts: list[str] = []
    if isinstance(record, Mark):
        texts = [record.text, *record.data, *record.data.values()]
    elif isinstance(record, NonFinite):
        texts = [record.scope, *record.layers]
        if len(record.layers) > LISTED_MAX:
            return "size", f"expected at most {LISTED_MAX} layers, got {len(record.layers)}"
        if not all(0 <= n <= limits.STEP_MAX for n in (record.nan, record.inf, record.total)):
            return "count", "expected counts of tensors from 0 to 2^53 - 1"
    elif isinstance(record, Forensics):
        if (why := _forensics_problem(record)) is not None:
            return why
        texts = _forensics_texts(record)
    elif isinstance(record, CheckpointSaved):
        texts = [record.path, record.sha256, record.command_id]
        if not 0 <= record.bytes <= limits.STEP_MAX:
            return "bytes", f"expected a size from 0 to 2^53 - 1, got {record.bytes}"
    elif isinstance(record, CommandResult):
        texts = [record.id, record.message]
    elif isinstance(record, Problem):
        texts = [record.kind, record.text]
    if any(len(text.encode()) > limits.TEXT_BYTES_MAX for text in texts):
        return "text", f"expected texts of at most {limits.TEXT_BYTES_MAX} bytes"
    return None


def _forensics_problem(record: Forensics) -> tuple[str, str] | None:
    listed = max(len(record.producers), len(record.propagators))
    if listed > LISTED_MAX:
        return "size", f"expected at most {LISTED_MAX} modules of a kind, got {listed}"
    if len(record.facts) > FACTS_MAX:
        return "size", f"expected at most {FACTS_MAX} facts, got {len(record.facts)}"
    if not 0 <= record.tracing_steps <= limits.STEP_MAX:
        return "count", f"expected attempts to trace from 0, got {record.tracing_steps}"
    return None


def _forensics_texts(record: Forensics) -> list[str]:
    said = [record.scope, record.first_forward, record.first_backward, record.text]
    said += [record.recorder_path, record.checkpoint_path]
    said += [*record.producers, *record.propagators]
    return [*said, *record.facts, *record.facts.values()]


def tidy_coverage(data: dict[str, str]) -> dict[str, str]:
    """What a coverage mark says, in texts that fit a page."""
    return {
        name[: limits.NAME_CHARS_MAX]: said[:COVERAGE_CHARS_MAX]
        for name, said in list(data.items())[:FACTS_MAX]
    }


def good_parts(batch: Batch, frame: bytes, bad: list[Bad]) -> list[tuple[Batch, bytes]]:
    """The batch without its bad records: as it came, or in pieces encoded anew."""
    if not bad:
        return [(batch, frame)]
    refused = {one.seq for one in bad}
    parts: list[Batch] = []
    for seq, record in enumerate(batch.records, batch.first):
        if seq in refused:
            continue
        if parts and parts[-1].first + len(parts[-1].records) == seq:
            parts[-1].records.append(record)
        else:
            parts.append(Batch(lane=batch.lane, first=seq, records=[record]))
    return [(part, msgspec.msgpack.encode(part)) for part in parts]
