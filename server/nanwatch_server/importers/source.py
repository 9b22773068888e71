"""What all formats have in common: a source that is read in pieces, and what went wrong in it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nanwatch.contract.lines import flatten
from nanwatch_server.domain.facts import EPOCHS
from nanwatch_server.importers.columns import Clock, clock_of
from nanwatch_server.importers.names import Given, Mapper
from nanwatch_server.importers.rows import Item, Rows
from nanwatch_server.importers.words import stage_words

PROBLEMS_SHOWN = 5
READ_BYTES = 1 << 20
LINES_AT_ONCE = 4_096


class UnusableError(ValueError):
    """A file is no log that can be read; the text says what was expected and what came."""


class NothingYetError(UnusableError):
    """There is nothing to read so far, and something may come: only where a log is followed."""


@dataclass
class Problems:
    """What could not be read: counted, the first few in words."""

    count: int = 0
    shown: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Parts of the log that nothing could be read of: said in the report itself."""

    def bad(self, what: str) -> None:
        """One line or value was left out."""
        self.count += 1
        if len(self.shown) < PROBLEMS_SHOWN:
            self.shown.append(what)

    def gone(self, what: str) -> None:
        """A part of the log is lost, so that what happened in it is not known."""
        self.bad(what)
        if len(self.lost) < PROBLEMS_SHOWN:
            self.lost.append(what)


@dataclass(frozen=True)
class Options:
    """What a person says of a log."""

    told: tuple[Given, ...] = ()
    follow: bool = False
    stand_in: Callable[[Path], float] | None = None
    """Time of the rows of a log without times; None: their step. With it only wall clocks count,
    for what is stored has its place in time."""


class Source:
    """One run in a log. `read` may be called again when the log has grown; `finish` ends it."""

    format = ""

    def __init__(self, path: Path, name: str, options: Options, *, exact: bool = False) -> None:
        self.path, self.name, self.options = path, name, options
        stand_in = options.stand_in(path) if options.stand_in else None
        self.rows = Rows(exact=exact, stand_in=stand_in)
        self.mapper = Mapper(options.told)
        self.problems = Problems()
        self.config: dict[str, str] = {}
        """Facts the log itself tells, as far as it was read."""
        self.done = 0
        """Bytes read so far, of `size`."""

    @property
    def size(self) -> int:
        """Bytes of the log as they lie on disk."""
        return self.path.stat().st_size

    def read(self) -> Iterator[list[Item]]:
        """What there is now, a bounded number of items at a time."""
        raise NotImplementedError

    def release(self) -> list[Item]:
        """Also the newest row, which nothing was added to for a while."""
        return self.rows.finish()

    def finish(self) -> list[Item]:
        """The rest, when nothing more will come."""
        return self.rows.finish()

    @property
    def known(self) -> bool:
        """True if there is a series that rules can read."""
        return any(one.kind != "custom" and one.stage == "train" for one in self.rows.series)

    def add_named(
        self, step: int, time: float | None, names: Iterable[str], values: Iterable[float]
    ) -> None:
        """Values under somebody's names."""
        ids: list[int] = []
        kept: list[float] = []
        for name, value in zip(names, values, strict=True):
            one = self.id_of(name)
            if one >= 0:
                ids.append(one)
                kept.append(value)
        self.rows.add(step, time, tuple(ids), kept)

    def clock_of(self, first: dict[str, float]) -> Clock | None:
        """The column that tells the time, from the first row."""
        return clock_of(first, elapsed=self.options.stand_in is None)

    def id_of(self, name: str, rank: int = 0) -> int:
        """Place of a column's series; -1 if the column is left out."""
        place = self.mapper.place(name)
        if place is None:
            return -1
        one = self.rows.id_of(place.kind, place.scope, place.layer, place.stage, rank)
        if name in self.mapper.negated:
            self.rows.negated.add(one)
        if whole := self.mapper.summed.get(name):
            into = self.rows.id_of(whole.kind, whole.scope, whole.layer, whole.stage, rank)
            self.rows.sum_into(into, one)
        else:
            self.rows.is_whole(one)
        return one

    def counts_by(self, name: str) -> None:
        """The column that counts the steps."""
        self.mapper.leave_out(name, "step")
        if stage_words(name)[0][-1:] in (["epoch"], ["epochs"]):
            self.learn({EPOCHS: "true"})

    def learn(self, nested: dict) -> None:
        """Configuration that lies in the log."""
        self.config.update(flatten(nested))


class LineSource(Source):
    """A source whose file is read line by line. Subclasses give `_pull`."""

    def __init__(self, path: Path, name: str, options: Options, *, exact: bool = False) -> None:
        super().__init__(path, name, options, exact=exact)
        self.lines = LineReader(path)

    def _pull(self, *, last: bool) -> Iterator[object]:
        """Take in the lines there are, one at a time; `last`: also one without its end."""
        raise NotImplementedError

    def read(self) -> Iterator[list[Item]]:
        """What there is now."""
        for count, _ in enumerate(self._pull(last=not self.options.follow), 1):
            if count % LINES_AT_ONCE == 0:
                self.done = self.lines.done
                yield self.rows.take()
        self.done = self.lines.done
        if self.lines.broken:
            self.problems.gone(f"{self.lines.broken}; read up to step {self.rows.step}")
            self.lines.broken = ""
        yield self.rows.take()

    def finish(self) -> list[Item]:
        """The rest."""
        for _ in self._pull(last=True):
            pass
        self.lines.close()
        return super().finish()


class LineReader:
    """Lines of a file that may grow, plain or gzip. A last line without its end waits."""

    def __init__(self, path: Path) -> None:
        zipped = path.suffix == ".gz"
        self._raw: IO[bytes] = open(path, "rb")  # noqa: SIM115 (lives as long as its source)
        self._file: Any = gzip.GzipFile(fileobj=self._raw) if zipped else self._raw
        self._rest = b""
        self._end = b""
        """What ends a line, as soon as the file has told."""
        self._path = path
        self.number = 0
        """Lines given so far."""
        self.broken = ""
        """Why reading ended before the end of the file."""

    @property
    def done(self) -> int:
        """Bytes read of the file as it lies on disk."""
        return self._raw.tell()

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """Lines there are now; `last`: also one without its end."""
        while block := self._block():
            data = self._rest + block
            self._end = self._end or _end_of(data)
            whole = data.split(self._end or b"\n")
            self._rest = whole.pop()
            for line in whole:
                yield self._text(line)
        if last and self._rest:
            rest, self._rest = self._rest, b""
            yield self._text(rest)

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()

    def _block(self) -> bytes:
        try:
            return self._file.read(READ_BYTES)
        except (EOFError, OSError, zlib.error) as error:
            self.broken = f"{self._path.name} ends in the middle: {error}"
            return b""

    def _text(self, line: bytes) -> str:
        self.number += 1
        if self.number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        # What is no UTF-8 becomes half surrogates, which the parsers tell apart from text.
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")


def _end_of(data: bytes) -> bytes:
    """What ends the lines of a file that begins so; empty as long as nobody knows."""
    if b"\n" in data:
        return b"\n"
    return b"\r" if b"\r" in data[:-1] else b""  # an old Mac's; the last may be half of \r\n
