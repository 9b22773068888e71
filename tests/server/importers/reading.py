"""Reads a log to its end, as the command line does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanwatch.contract.frames import Mark
from nanwatch_server.importers.discover import find
from nanwatch_server.importers.names import given
from nanwatch_server.importers.rows import Row
from nanwatch_server.importers.source import Options, Source


class Read:
    """What a source gave."""

    def __init__(self, source: Source) -> None:
        items = [item for part in source.read() for item in part]
        items += source.finish()
        self.source = source
        self.rows = [item for item in items if isinstance(item, Row)]
        self.marks = [item for item in items if isinstance(item, Mark)]
        self.items = items

    def points(self, kind: str, scope: str = "", layer: str = "", **more: Any) -> list[Any]:
        """(step, value) of a series, in order."""
        place = {"kind": kind, "scope": scope, "layer": layer, "stage": "train", "rank": 0} | more
        ids = [
            one.id
            for one in self.source.rows.series
            if all(getattr(one, name) == value for name, value in place.items())
        ]
        return [
            (row.step, row.values[row.ids.index(ids[0])])
            for row in self.rows
            if ids and ids[0] in row.ids
        ]

    @property
    def names(self) -> list[str]:
        """Every series, in words."""
        return [
            f"{s.stage}:{s.scope}.{s.kind}" + (f"[{s.layer}]" if s.layer else "")
            for s in self.source.rows.series
        ]


def read_all(path: Path, *told: str, **options: Any) -> list[Read]:
    """Every run under a path."""
    found = find(path, Options(told=tuple(map(given, told)), **options))
    return [Read(source) for source in found.sources]


def read(path: Path, *told: str, **options: Any) -> Read:
    """The only run under a path."""
    (one,) = read_all(path, *told, **options)
    return one
