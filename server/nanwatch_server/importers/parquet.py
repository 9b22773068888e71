"""Our own exports in Parquet: the long form of the CSV, one row a value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanwatch_server.importers.csv import LONG
from nanwatch_server.importers.rows import Item, usable_step
from nanwatch_server.importers.source import Options, Source, UnusableError

ROWS_AT_ONCE = 1 << 16


class LongParquet(Source):
    """One run."""

    format = "nanwatch export (Parquet)"

    def __init__(self, path: Path, name: str, options: Options) -> None:
        super().__init__(path, name, options, exact=True)
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise UnusableError(
                f"Parquet needs the package pyarrow ({error.name} is missing): "
                "pip install 'nanwatch[parquet]'"
            ) from None
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise UnusableError(f"{path.name}: expected Parquet: {error}") from None
        names = self._file.schema_arrow.names
        if sorted(names) != sorted(LONG):
            raise UnusableError(
                f"{path.name}: expected the columns {', '.join(LONG)} of an export of nanwatch, "
                f"got {', '.join(names)[:200]}"
            )
        self._known: dict[tuple[Any, ...], int] = {}
        self._learn_file()

    def read(self) -> Iterator[list[Item]]:
        """All of it; a Parquet file does not grow."""
        rows = max(self._file.metadata.num_rows, 1)
        done = 0
        batches = self._file.iter_batches(ROWS_AT_ONCE, columns=list(LONG))
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                self._batch([column.to_pylist() for column in batch.columns])
            except (OSError, ValueError, TypeError) as error:
                self.problems.gone(
                    f"{self.path.name} is damaged behind row {done} of {rows}: {error}"
                )
                return
            done += batch.num_rows
            self.done = self.size * done // rows
            yield self.rows.take()

    def _batch(self, columns: list[list[Any]]) -> None:
        for stage, scope, kind, layer, rank, step, time, value in zip(*columns, strict=True):
            key = (kind, scope, layer, stage, rank)
            one = self._known.get(key)
            if one is None:
                one = self._known[key] = self.rows.id_of(*key)
            if one < 0:
                self.rows.refused += 1
            elif usable_step(step) is None:
                self.problems.bad(f"expected a step from 0 to 2^53 - 1, got {step}")
            else:
                self.rows.add_one(step, time, one, value, rank)

    def _learn_file(self) -> None:
        told = (self._file.schema_arrow.metadata or {}).get(b"nanwatch")
        if told:
            found = json.loads(told)
            self.config.update({str(k): str(v) for k, v in found.get("config", {}).items()})
