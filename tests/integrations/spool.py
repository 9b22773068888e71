"""Reading what a finished run has left on the disk."""

from __future__ import annotations

from array import array
from pathlib import Path

from nanwatch.contract import frames
from nanwatch.link.box import Box

Points = dict[tuple[str, str, str, str], list[tuple[int, float]]]


def only_spool(data: Path) -> Path:
    """Folder of the one run."""
    (found,) = (data / "spool").iterdir()
    return found


def hello(spool: Path) -> frames.Hello:
    """What the run said of itself."""
    found = Box(spool).hello()
    assert found is not None
    return found


def points(spool: Path) -> Points:
    """(step, value) by (stage, kind, scope, layer)."""
    found: Points = {}
    for record, declared in Box(spool).records("scalars"):
        if isinstance(record, frames.Table):
            steps, values = array("q", record.steps), array("d", record.values)
            for row, number in enumerate(record.ids):
                column = values[row * len(steps) : (row + 1) * len(steps)]
                one = declared[number]
                key = (one.stage, one.kind, one.scope, one.layer)
                found.setdefault(key, []).extend(zip(steps, column, strict=True))
    return found
