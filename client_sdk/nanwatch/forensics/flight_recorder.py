"""The last attempts in full, kept in memory and written to one file when there is trouble.

Filled on the background thread from the rows that go out anyway, so it costs the training nothing.
The file is msgpack (docs/forensics.md has its layout), with a text beside it for a person.
"""

from __future__ import annotations

import math
import os
import time
from array import array
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from nanwatch.contract.frames import Mark, NonFinite, Record, Table
from nanwatch.record import Catalog

FORMAT = "nanwatch-flight/1"
ATTEMPTS_KEPT = 200
VALUES_MOST = 2_000_000
"""Bound of the memory: 16 MB of values. With very many layers fewer attempts are kept."""

FILES_MOST = 16
"""Files of one run; the last one is written over beyond that."""

EVENTS_KEPT = 50
TABLE_ATTEMPTS = 30


class FlightRecorder:
    """Ring of what was recorded, and the files made of it."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.run_id = ""
        self._tables: deque[tuple[int, Table]] = deque()
        """(last step, table)"""
        self._values = 0
        self._events: deque[Mark | NonFinite] = deque(maxlen=EVENTS_KEPT)
        self._files = 0
        self._newest = 0

    def saw(self, record: Record) -> None:
        """Keep a table or an event that goes out. Background thread."""
        kind = type(record)
        if kind is Mark or kind is NonFinite:
            self._events.append(record)  # type: ignore[arg-type]
        if kind is not Table or not record.steps:  # type: ignore[union-attr]
            return
        table: Any = record
        last = _last_step(table)
        self._tables.append((last, table))
        self._values += len(table.values) // 8
        self._newest = max(self._newest, last)
        oldest = self._newest - ATTEMPTS_KEPT
        while self._tables and (self._values > VALUES_MOST or self._tables[0][0] <= oldest):
            self._values -= len(self._tables.popleft()[1].values) // 8

    def latest(self, catalog: Catalog, scope: str, step: int) -> dict[str, float]:
        """Newest value at or before `step` of every kind that has no layer, of one scope."""
        names = {number: key for key, number in catalog.ids.items()}
        found: dict[str, float] = {}
        for _, table in self._tables:
            steps, values = array("q", table.steps), array(_code(table.dtype), table.values)
            rows = [n for n, at in enumerate(steps) if at <= step]
            if not rows:
                continue
            for k, number in enumerate(table.ids):
                kind, of, layer, stage = names[number]
                if of == scope and not layer and stage == "train":
                    found[kind] = values[k * len(steps) + rows[-1]]
        return found

    def write(self, catalog: Catalog, report: dict[str, Any], state: dict[str, Any]) -> str:
        """Write the ring with a report and the state of the random generators; the file's path.

        Raises OSError when the disk refuses.
        """
        if self.directory is None:
            return ""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = min(self._files, FILES_MOST - 1)
        self._files += 1
        path = self.directory / f"flight-{number:02d}.msgpack"
        content = {
            "format": FORMAT,
            "run": self.run_id,
            "written_at": time.time(),
            "report": report,
            "series": [
                [n, kind, scope, layer, stage]
                for (kind, scope, layer, stage), n in catalog.ids.items()
            ],
            "tables": [table for _, table in self._tables],
            "events": list(self._events),
            "state": state,
        }
        _write(path, msgspec.msgpack.encode(content))
        _write(path.with_suffix(".txt"), describe(read(path)).encode())
        return str(path)


def _last_step(table: Table) -> int:
    return int.from_bytes(table.steps[-8:], "little", signed=True)


def _code(dtype: str) -> Literal["d", "f"]:
    return "f" if dtype == "f4" else "d"


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


# --- reading -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Flight:
    """One flight recorder file."""

    report: dict[str, Any]
    state: dict[str, Any]
    events: list[dict[str, Any]]
    series: dict[tuple[str, str, str, str], list[tuple[int, float]]]
    """(kind, scope, layer, stage) → (step, value) in order."""


def read(path: str | Path) -> Flight:
    """Read a file of the flight recorder. Raises ValueError if it is none."""
    try:
        content = msgspec.msgpack.decode(Path(path).read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        text = f"expected a flight recorder file ({FORMAT}), got {path}: {error}"
        raise ValueError(text) from error
    names = {n: (kind, scope, layer, stage) for n, kind, scope, layer, stage in content["series"]}
    series: dict[tuple[str, str, str, str], list[tuple[int, float]]] = {}
    for table in content["tables"]:
        ids, steps = table["ids"], array("q", table["steps"])
        values = array(_code(table.get("dtype", "f8")), table["values"])
        for k, number in enumerate(ids):
            points = zip(steps, values[k * len(steps) : (k + 1) * len(steps)], strict=True)
            series.setdefault(names[number], []).extend(points)
    return Flight(content["report"], content["state"], content["events"], series)


OUTCOMES = {0.0: "applied", 1.0: "skipped by scaler", 2.0: "skipped by script", 3.0: "held"}
COLUMNS = ("loss", "grad_norm", "clip_threshold", "lr", "loss_scale")


def describe(flight: Flight) -> str:
    """The file for a person: what happened, the last attempts, the layers that grew."""
    report = flight.report
    trigger, step = report.get("trigger", ""), report.get("step", "")
    lines = [
        f"nanwatch flight recorder: {trigger} at attempt {step}",
        "",
        str(report.get("text", "")),
        "",
        *(f"{key}: {value}" for key, value in sorted(report.get("facts", {}).items())),
    ]
    scopes = sorted({key[1] for key in flight.series if key[0] == "update_applied"})
    for scope in scopes:
        lines += ["", *_table(flight, scope), "", *_layers(flight, scope)]
    return "\n".join(lines) + "\n"


def _table(flight: Flight, scope: str) -> list[str]:
    columns = {name: dict(flight.series.get((name, scope, "", "train"), [])) for name in COLUMNS}
    columns = {name: values for name, values in columns.items() if values}
    outcomes = flight.series.get(("skip_reason", scope, "", "train"), [])[-TABLE_ATTEMPTS:]
    head = f"{'attempt':>9}" + "".join(f"{name:>16}" for name in columns) + "  outcome"
    title = f"Last {len(outcomes)} attempts" + (f" of {scope}" if scope else "")
    rows = [
        f"{step:>9}"
        + "".join(f"{_number(values.get(step)):>16}" for values in columns.values())
        + f"  {OUTCOMES.get(reason, reason)}"
        for step, reason in outcomes
    ]
    return [title, head, *rows]


def _layers(flight: Flight, scope: str) -> list[str]:
    """Layers whose last gradient norm is not finite, else those that grew most."""
    found: list[tuple[float, str]] = []
    for (kind, of, layer, _), points in flight.series.items():
        if kind != "grad_norm_layer" or of != scope or not points:
            continue
        last = points[-1][1]
        finite = sorted(v for _, v in points[:-1] if math.isfinite(v))
        usual = finite[len(finite) // 2] if finite else math.nan
        growth = last / usual if math.isfinite(last) and usual > 0 else math.inf
        text = f"  {layer}: last {_number(last)}, usually {_number(usual)}"
        found.append((growth, text))
    found.sort(key=lambda item: -item[0])
    if not found:
        return []
    return ["Gradient norms by layer, worst first", *(text for _, text in found[:20])]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
