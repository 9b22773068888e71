"""`trainer_state.json` of transformers, and plain lists of objects in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanwatch_server.domain.facts import TRAINER, WRITTEN_BY
from nanwatch_server.importers import columns
from nanwatch_server.importers.rows import Item
from nanwatch_server.importers.source import Options, Source, UnusableError

BYTES_MAX = 2 << 30
_SUMMARY = "train_runtime"
"""Only the last entry of a training has it: means over all steps, not values of one."""


def _parsed(data: bytes) -> Any:
    """JSON, also where its NaN are spelt as no JSON spells them."""
    try:
        return json.loads(data)
    except UnicodeDecodeError:
        raise
    except ValueError:
        text = data.decode("utf-8")
        if (said := columns.quoted(text)) == text:
            raise
        return json.loads(said)


def history_of(data: Any) -> list[Any] | None:
    """The entries of a file; None if it is something else."""
    if isinstance(data, dict):
        data = data.get("log_history")
    entries = isinstance(data, list) and all(isinstance(one, dict) for one in data)
    return data if entries else None


class LogHistory(Source):
    """One run: the entries of a `trainer_state.json`."""

    format = "trainer_state.json"

    def __init__(self, path: Path, name: str, options: Options) -> None:
        super().__init__(path, name, options)
        self._seen: tuple[int, int] = (-1, -1)
        self._entries = 0
        self._step = ""
        self._clock: columns.Clock | None = None
        self._broken = ""
        """Why the file could not be read the last time, where it is followed."""

    def read(self) -> Iterator[list[Item]]:
        """What there is now; a file that was written anew is read again behind what is known."""
        stat = self.path.stat()
        if (stat.st_size, stat.st_mtime_ns) == self._seen:
            return
        data = self._load(stat.st_size)
        if data is None:
            return
        self._seen = (stat.st_size, stat.st_mtime_ns)
        entries = history_of(data)
        if entries is None:
            raise UnusableError(
                f"{self.path.name}: expected log_history, a list of objects, as transformers "
                "writes it"
            )
        if isinstance(data, dict):
            plain = (str, int, float, bool)
            self.learn({k: v for k, v in data.items() if isinstance(v, plain) and v is not None})
            self.learn({WRITTEN_BY: TRAINER})
        for number, entry in enumerate(entries[self._entries :], self._entries + 1):
            self._entry(entry, number)
        self._entries = max(self._entries, len(entries))
        self.done = stat.st_size
        yield self.rows.take()

    def _load(self, size: int) -> Any:
        if size > BYTES_MAX:
            raise UnusableError(f"{self.path.name}: expected at most 2 GiB of JSON, got {size}")
        data = self.path.read_bytes()
        try:
            return _parsed(data)
        except (ValueError, RecursionError) as error:
            self._broken = f"{self.path.name}: expected JSON: {error}"
            if self.options.follow:
                return None  # caught while it is written
            raise UnusableError(self._broken) from None

    def finish(self) -> list[Item]:
        """The rest."""
        if self._broken and not self._entries:
            self.problems.bad(self._broken)
        return super().finish()

    def _entry(self, entry: dict[str, Any], number: int) -> None:
        flat = {
            name: value
            for name, cell in entry.items()
            if (value := columns.number(cell)) is not None
        }
        if not self._step:
            self._step = columns.step_name(flat) or ""
            self._clock = self.clock_of(flat)
            for name, what in ((self._step, "step"), (self._clock and self._clock.name, "time")):
                if name:
                    self.mapper.leave_out(name, what)
        step = columns.whole(flat.get(self._step)) if self._step else number - 1
        if step is None:
            self.problems.bad(f"entry {number}: expected a step from 0, got {entry.get('step')!r}")
            return
        time = self._clock.time(flat.get(self._clock.name)) if self._clock else None
        own = (self._step, self._clock and self._clock.name)
        names = [name for name in flat if name not in own]
        shown = [f"summary/{name}" for name in names] if _SUMMARY in flat else names
        self.mapper.declare(shown)
        self.add_named(step, time, shown, [flat[name] for name in names])
