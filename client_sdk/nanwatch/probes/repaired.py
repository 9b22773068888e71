"""How many numbers the user's guards (`nanwatch.guards`) changed in each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.guards.tally import TALLY
from nanwatch.probes.probe import Columns, Measured, Probe, now
from nanwatch.probes.tensors import Joined, Numbers, read_all

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known


class Repaired(Probe):
    """Takes the counts of the guards at the close of every attempt of the main optimizer."""

    name: ClassVar[str] = "guards"
    share: ClassVar[float] = 0.0

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._columns: dict[str, Columns] = {}

    def install(self) -> None:
        """From now on there is someone who takes the counts."""
        TALLY.take()
        TALLY.watched = True

    def remove(self) -> None:
        """Nobody takes them any more."""
        TALLY.watched = False
        TALLY.take()

    def coverage(self) -> str:
        """Which guards are in use."""
        return ", ".join(sorted(self._columns))

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Record what changed since the attempt before, zeros of known guards included."""
        if not attempt.is_main or not (TALLY.fresh or self._columns):
            return
        fresh = TALLY.take()
        for name in [*fresh, *(name for name in self._columns if name not in fresh)]:
            columns = self._columns.get(name)
            if columns is None:
                columns = self._columns[name] = Columns([("repaired", "", name)])
            self.observer.recorder.put(
                Measured(
                    attempt.step,
                    now(),
                    columns,
                    _numbers(fresh.get(name, [])),
                    f"guard {name}",
                    _total,
                )
            )


def _numbers(counts: list[Any]) -> Numbers:
    """Counts of one guard: whole numbers and zero-dimensional tensors on their way."""
    plain = Numbers([float(count) for count in counts if isinstance(count, int)])
    tensors = [count for count in counts if not isinstance(count, int)]
    return Joined([plain, read_all(tensors)]) if tensors else plain


def _total(counts: Sequence[float]) -> list[float]:
    return [float(sum(counts))]
