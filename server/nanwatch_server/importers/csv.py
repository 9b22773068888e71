"""CSV: our own long form (exact), tables of one row a step (Stable-Baselines3, Lightning, pandas),
tables of one row a value, and what W&B and TensorBoard download.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from nanwatch.contract.limits import STEP_MAX, to_name
from nanwatch.contract.lines import LineError, number_of
from nanwatch_server.importers import columns
from nanwatch_server.importers.rows import Item
from nanwatch_server.importers.source import (
    LineReader,
    LineSource,
    NothingYetError,
    Options,
    Source,
    UnusableError,
)

LONG = ("stage", "scope", "kind", "layer", "rank", "step", "time", "value")
"""Header of our own exports."""

_NAME_COLUMNS = ("metric", "key", "tag", "name", "variable", "series")
_MISSING = frozenset({"", "null", "none", "na", "n/a", "-", "--", "<na>"})
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")
"""How such a file begins, read as UTF-8."""
FIELD_CHARS_MAX = 1 << 20


def sources(path: Path, name: str, options: Options) -> list[Source]:
    """The runs in a file: one, or as many as a W&B panel shows. Raises `UnusableError`."""
    reader = LineReader(path)
    try:
        last = not options.follow  # half a header would be other names
        rows = (part for line in reader.lines(last=last) for part in _parts(line))
        first = next((part for part in rows if _says(part)), "")
    finally:
        reader.close()
    if not first:
        if reader.broken:
            raise UnusableError(reader.broken)
        if options.follow:
            raise NothingYetError(f"{path.name} has no first line yet")
    header, delimiter = _header(first, path)
    if tuple(header) == LONG:
        return [LongTable(path, name, options, delimiter)]
    if runs := _panel(header):
        return [
            WideTable(path, run, options, delimiter, header, keep)
            for run, keep in sorted(runs.items())
        ]
    if _one_value(header):
        return [TidyTable(path, name, options, delimiter, header)]
    return [WideTable(path, name, options, delimiter, header, {})]


def _parts(line: str) -> list[str]:
    """The rows of a line: an old Mac's line ends may stand between others, where no quotes do."""
    return line.split("\r") if "\r" in line and '"' not in line else [line]


def _says(line: str) -> bool:
    """False for blank lines and comments, which may stand before the header."""
    return bool(line.strip()) and not line.startswith("#")


def _header(first: str, path: Path) -> tuple[list[str], str]:
    what = f"{path.name}: expected a first line with names of columns"
    if first.startswith(_UTF16):
        raise UnusableError(f"{what} in UTF-8, got UTF-16: save it as UTF-8")
    if not first.replace("\t", "").isprintable():
        raise UnusableError(f"{what}, got binary data: {ascii(first)[:80]}")
    counts = Counter({mark: first.count(mark) for mark in (",", ";", "\t")})
    delimiter = counts.most_common(1)[0][0]
    try:
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error as error:
        raise UnusableError(f"{what}, got {ascii(first)[:80]}: {error}") from None
    if all(not cell or columns.number(cell) is not None for cell in header):
        raise UnusableError(f"{what}, got {ascii(first)[:80]}")
    return header, delimiter


def _panel(header: list[str]) -> dict[str, dict[str, str]]:
    """Run → column → metric, of a table that a W&B panel gives: `run - metric`, `…__MIN`."""
    metrics = [cell for cell in header[1:] if not cell.endswith(("__MIN", "__MAX"))]
    if len(metrics) == len(header) - 1 or not all(" - " in cell for cell in metrics):
        return {}
    runs: dict[str, dict[str, str]] = {}
    for cell in metrics:
        run, _, metric = cell.rpartition(" - ")
        runs.setdefault(run, {})[cell] = metric
    return runs


def _one_value(header: list[str]) -> bool:
    """True where each row is one value: `Wall time,Step,Value`, or `metric,step,value`."""
    names = [cell.lower() for cell in header]
    return "value" in names and ("wall time" in names or any(n in names for n in _NAME_COLUMNS))


class _Table(LineSource):
    """Rows of cells, from a file that may grow."""

    format = "CSV"

    def __init__(
        self, path: Path, name: str, options: Options, delimiter: str, *, exact: bool = False
    ) -> None:
        super().__init__(path, name, options, exact=exact)
        self._delimiter = delimiter
        self._number = columns.comma_number if delimiter == ";" else columns.number
        self._header: list[str] | None = None

    def _pull(self, *, last: bool) -> Iterator[None]:
        for cells in self._cells(last=last):
            self._one(cells)
            yield

    def _cells(self, *, last: bool) -> Iterator[list[str]]:
        csv.field_size_limit(FIELD_CHARS_MAX)
        reader = csv.reader(self._kept(last), delimiter=self._delimiter)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.problems.bad(f"line {self.lines.number}: {error}")
                continue
            if cells:
                yield cells

    def _kept(self, last: bool) -> Iterator[str]:
        for line in self.lines.lines(last=last):
            yield from _parts(line.replace("\0", "") if "\0" in line else line)

    def _one(self, cells: list[str]) -> None:
        if self._header is None:
            if cells[0].startswith("#"):
                return
            self._header = [cell.strip() for cell in cells]
            return
        if cells[0] == self._header[0] and [cell.strip() for cell in cells] == self._header:
            return  # written again by a run that was resumed
        self._row(cells, self.lines.number)

    def _row(self, cells: list[str], number: int) -> None:
        raise NotImplementedError


class LongTable(_Table):
    """Our own exports: one row a value, everything named, nothing guessed."""

    format = "nanwatch export (CSV)"

    def __init__(self, path: Path, name: str, options: Options, delimiter: str) -> None:
        super().__init__(path, name, options, delimiter, exact=True)
        self._known: dict[tuple[str, ...], int] = {}

    def _row(self, cells: list[str], number: int) -> None:
        try:
            stage, scope, kind, layer, rank, step, time, text = cells
            key = (stage, scope, kind, layer, rank)
            one = self._known.get(key)
            if one is None:
                one = self._known[key] = self.rows.id_of(kind, scope, layer, stage, int(rank))
            at = int(step)
            if not 0 <= at <= STEP_MAX:
                raise ValueError(f"expected a step from 0 to 2^53 - 1, got {step}")
            if one < 0:
                self.rows.refused += 1
                return
            try:
                value = float(text) if text[-1:].isdigit() else number_of(text, kind)
            except LineError as error:
                raise ValueError(str(error).partition(": ")[2]) from None
            self.rows.add_one(at, float(time), one, value, int(rank))
        except ValueError as error:
            self.problems.bad(f"line {number}: {error}")


class WideTable(_Table):
    """One row a step, one column a series. `keep`: column → name, where only some are of this
    run."""

    def __init__(
        self,
        path: Path,
        name: str,
        options: Options,
        delimiter: str,
        header: list[str],
        keep: dict[str, str],
    ) -> None:
        super().__init__(path, name, options, delimiter)
        self.format = "CSV (W&B panel)" if keep else "CSV"
        self._keep = keep
        self._names = [keep.get(cell, "") if keep else cell for cell in header]
        self._step = self._clock_at = -1
        self._dates = False
        self._clock: columns.Clock | None = None
        self._begun = False
        self._count = 0
        self._texts: Counter[int] = Counter()
        self._numbers: set[tuple[int, ...]] = set()
        """Series that came together, to tell columns of texts from those with some."""
        self._places: list[tuple[int, int]] = []
        """(column, id of its series)."""
        self._names_of = header

    def _row(self, cells: list[str], number: int) -> None:
        if len(cells) != len(self._names):
            more = len(cells) > len(self._names)
            self.problems.bad(
                f"line {number}: expected {len(self._names)} cells, got {len(cells)}"
                + ("; the surplus is left out" if more else "; the missing ones are taken as empty")
            )
        if not self._begun:
            self._begin(cells)
        step = self._step_of(cells, number)
        if step is None:
            return
        ids: list[int] = []
        values: list[float] = []
        width = len(cells)
        for column, one in self._places:
            cell = cells[column] if column < width else ""
            if not cell:
                continue
            try:
                value = float(cell)
            except ValueError:
                said = self._word(column, cell)
                if said is None:
                    continue
                value = said
            ids.append(one)
            values.append(value)
        numbered = tuple(ids)
        self._numbers.add(numbered)
        self.rows.add(step, self._time(cells), numbered, values)

    def _word(self, column: int, cell: str) -> float | None:
        """A cell that is no plain number: a word for one, nothing, or a text."""
        value = self._number(cell)
        if value is None and cell.strip().lower() not in _MISSING:
            self._texts[column] += 1
        return value

    def _begin(self, cells: list[str]) -> None:
        """The first row tells which column counts steps and which tells the time."""
        self._begun = True
        header = self._names_of
        first = {
            name: value
            for name, cell in zip(header, cells, strict=False)
            if name and (value := self._number(cell)) is not None
        }
        step = columns.step_name(first)
        if self._keep and step is None and header[0] in first:
            step = header[0]  # a panel's x axis
        if step is not None:
            self._step = header.index(step)
            self.counts_by(step)
        self._clock = self.clock_of(first)
        if self._clock is not None:
            self._clock_at = header.index(self._clock.name)
            self.mapper.leave_out(self._clock.name, "time")
        else:
            self._dated(cells)
        taken = [self._step, self._clock_at]
        for column, name in enumerate(self._names):
            if column not in taken and columns.is_second_clock(name):
                taken.append(column)
                self.mapper.leave_out(name, "time")
        mine = [(i, name) for i, name in enumerate(self._names) if name and i not in taken]
        self.mapper.declare(name for _, name in mine)
        for column, name in mine:
            one = self.id_of(name)
            if one >= 0:
                self._places.append((column, one))

    def _dated(self, cells: Sequence[str]) -> None:
        for column, (name, cell) in enumerate(zip(self._names_of, cells, strict=False)):
            if columns.is_wall(name) and columns.moment(cell) is not None:
                self._clock_at, self._dates = column, True
                self.mapper.leave_out(name, "time")
                return

    def _step_of(self, cells: list[str], number: int) -> int | None:
        self._count += 1
        if self._step < 0:
            return self._count - 1
        cell = cells[self._step] if self._step < len(cells) else ""
        step = columns.whole(self._number(cell))
        if step is None and cell.strip().lower() not in _MISSING:
            self.problems.bad(f"line {number}: expected a step from 0, got {cell[:40]!r}")
        elif step is None:
            self.problems.bad(f"line {number}: no step")
        return step

    def _time(self, cells: list[str]) -> float | None:
        if self._clock_at < 0 or self._clock_at >= len(cells):
            return None
        cell = cells[self._clock_at]
        if self._dates:
            return columns.moment(cell)
        return self._clock.time(self._number(cell)) if self._clock else None

    def finish(self) -> list[Item]:
        """The rest; columns that held nothing but texts are said to be left out."""
        rest = super().finish()
        numbered = {one for ids in self._numbers for one in ids}
        places = dict(self._places)
        for column, count in self._texts.items():
            name = self._names[column]
            if places[column] not in numbered:
                self.mapper.leave_out(name, "texts, left out")
            else:
                self.problems.bad(f"column {name}: {count} cells are no numbers")
        return rest


class TidyTable(_Table):
    """One row a value: `metric,step,value`, or TensorBoard's `Wall time,Step,Value` of one tag."""

    format = "CSV (one value a row)"

    def __init__(
        self, path: Path, name: str, options: Options, delimiter: str, header: list[str]
    ) -> None:
        super().__init__(path, name, options, delimiter)
        lower = [cell.lower() for cell in header]
        self._value = lower.index("value")
        self._named = next((lower.index(one) for one in _NAME_COLUMNS if one in lower), -1)
        self._tag = name.rpartition("tag-")[2].replace("_", "/", 1) if "tag-" in name else name
        self._stepped = next((i for i, one in enumerate(lower) if one in ("step", "_step")), -1)
        if self._stepped < 0:
            raise UnusableError(f"{path.name}: expected a column step beside value, got {header}")
        self._timed = next(
            (i for i, one in enumerate(lower) if one.replace(" ", "_") in
             ("wall_time", "timestamp", "time")), -1)  # fmt: skip
        self._clock: columns.Clock | None = None
        for column in (self._value, self._named, self._stepped, self._timed):
            if column >= 0:
                self.mapper.leave_out(header[column], "part of every row")

    def _row(self, cells: list[str], number: int) -> None:
        def cell(column: int) -> str:
            return cells[column] if 0 <= column < len(cells) else ""

        step = columns.whole(self._number(cell(self._stepped)))
        value = self._number(cell(self._value))
        if step is None or value is None:
            self.problems.bad(f"line {number}: expected a step and a value, got {cells[:6]}"[:200])
            return
        clock = self._number(cell(self._timed))
        if self._clock is None and clock is not None:
            self._clock = self.clock_of({"time": clock}) or columns.Clock("", math.nan)
        time = self._clock.time(clock) if self._clock else None
        name = cell(self._named) if self._named >= 0 else self._tag
        self.add_named(step, time, [name or to_name(self.name)], [value])
