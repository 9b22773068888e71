"""Reading what a finished run has left on the disk."""

from __future__ import annotations

from array import array
from pathlib import Path

from nanwatch.contract import frames
from nanwatch.link.spool import BATCH, DECLARE, scan

Points = dict[tuple[str, str, str, str], list[tuple[int, float]]]


def only_spool(data: Path) -> Path:
    """Folder of the one run."""
    (found,) = (data / "spool").iterdir()
    return found


def hello(spool: Path) -> frames.Hello:
    """What the run said of itself."""
    found = frames.decode_client((spool / "hello.msgpack").read_bytes())
    assert isinstance(found, frames.Hello)
    return found


def points(spool: Path) -> Points:
    """(step, value) by (stage, kind, scope, layer)."""
    names: dict[int, tuple[str, str, str, str]] = {}
    found: Points = {}
    for segment in sorted(spool.glob("scalars-*.seg")):
        for kind, _, _, payload in scan(segment):
            frame = frames.decode_client(payload)
            if kind == DECLARE and isinstance(frame, frames.Declare):
                names.update({d.id: (d.stage, d.kind, d.scope, d.layer) for d in frame.series})
            if kind == BATCH and isinstance(frame, frames.Batch):
                for record in frame.records:
                    if isinstance(record, frames.Table):
                        _table(record, names, found)
    return found


def _table(table: frames.Table, names: dict[int, tuple[str, str, str, str]], found: Points) -> None:
    steps, values = array("q", table.steps), array("d", table.values)
    for row, number in enumerate(table.ids):
        column = values[row * len(steps) : (row + 1) * len(steps)]
        found.setdefault(names[number], []).extend(zip(steps, column, strict=True))
