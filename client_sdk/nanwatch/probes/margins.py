"""How far the arguments of logarithms, roots and quotients near the loss are from where these end:
log(0), the root of a negative number, a division by nothing, an exponential beyond the format.

Read from the graph behind the loss, on a cadence; nothing of torch is replaced, nothing of the
model is run again. `arguments` knows the operations and what keeps their arguments in bounds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.probes.arguments import UNBOUNDED, Operation, margin_of, operations
from nanwatch.probes.calls import Ledger
from nanwatch.probes.overhead import Cadence
from nanwatch.probes.probe import Columns, Measured, Probe, now
from nanwatch.probes.tensors import Numbers, read_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

NODES_MOST = 300
"""Nodes of the graph that are looked at from the loss on: formulas of losses are short."""
OPERATIONS_MOST = 16
"""Operations whose arguments are looked at, those nearest to the loss."""
LOOKS, REST = 3, 64
"""A loss without any of them three times is looked at again after so many backward passes."""
SAME_MOST = 128
"""Looks at the same operations before the graph is searched again."""
PLACES_MOST = 64
ALERTS_MOST = 3
"""What nears its edge is looked at at every attempt for a while, so often."""
LEAST_S = 15e-6
"""Seconds a step that it may take in any case: an argument may reach its edge within 50 steps."""


@dataclass(slots=True, eq=False)
class _Place:
    """One place in the code that calls backward."""

    number: int
    """Its own turn in the cadence: the losses of a game must not take turns in being seen."""
    operations: list[Operation] = field(default_factory=list)
    """Where they are in the graph of the loss, which is the same for each batch, mostly."""
    looks: int = 0
    """How often they were found there."""
    empty: int = 0
    """Looks in a row that found nothing."""
    rest: int = 0
    """Backward passes to let go by."""
    shape: tuple[type, ...] = ()
    """Types of the nodes next to the loss: with another loss they are others."""
    begun: dict[str, float] = field(default_factory=dict)
    """Operation without bounds → the largest margin there was."""
    alerts: int = 0
    """How often a margin was so small that every attempt was looked at for a while."""

    def falls(self, names: Sequence[str], margins: Sequence[float]) -> bool:
        """True if a margin that nothing bounds is down to half of what it was."""
        fallen = False
        for name, margin in zip(names, margins, strict=True):
            if name.endswith(UNBOUNDED):
                begun = self.begun[name] = max(margin, self.begun.get(name, 0.0))
                fallen = fallen or 0 < margin < begun / 2
        return fallen


@dataclass(slots=True)
class _Found:
    """The least margin of each kind of operation in one backward pass."""

    names: tuple[str, ...]
    numbers: Numbers


class Margins(Probe):
    """Looks behind the loss just before backward, while the graph is there."""

    name: ClassVar[str] = "margins"
    share: ClassVar[float] = 0.12

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.cadence = Cadence(observer.overhead, self.share, LEAST_S)
        self._places: dict[Any, _Place] = {}
        self._named = 0
        """Places there have ever been."""
        self._ledger: Ledger[_Found] = Ledger()
        self._columns: dict[tuple[str, tuple[str, ...]], Columns] = {}

    def coverage(self) -> str:
        """How often, where there is something to look at."""
        return super().coverage() if self._columns else ""

    def before_backward(self, backward: Backward) -> None:
        """Measure the margins of this loss, if it is time to."""
        place = self._places.get(backward.site)
        if place is None:
            if len(self._places) >= PLACES_MOST:
                for old in self._places.values():
                    self.cadence.forget(old.number)
                self._places.clear()
            self._named += 1
            place = self._places[backward.site] = _Place(self._named)
        if place.rest > 0:
            place.rest -= 1
            if _shape(backward.starts) == place.shape:
                return
            place.rest = place.empty = 0
        if not self.cadence.due(place.number):
            return
        started = time.perf_counter()
        margins = _margins(place, backward.starts)
        if margins:
            place.empty = 0
            names = tuple(margins)
            numbers = read_all([_least(found) for found in margins.values()])
            self._ledger.note(_Found(names, numbers), backward.reached)
            near = place.alerts < ALERTS_MOST and numbers.here()
            if near and place.falls(names, numbers.get()):
                place.alerts += 1
                self.cadence.alert()
        else:
            place.empty += 1
            if place.empty >= LOOKS:
                place.rest, place.shape = REST, _shape(backward.starts)
                self.cadence.forget(place.number)
        self.cadence.spent(time.perf_counter() - started)

    def after_backward(self, backward: Backward) -> None:
        """It used what was measured."""
        self._ledger.after_backward(backward)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Hand over what the first backward pass of the attempt showed."""
        for found in self._ledger.closed(attempt)[:1]:
            key = (known.scope, found.names)
            columns = self._columns.get(key)
            if columns is None:
                entries = [("domain_margin", known.scope, name) for name in found.names]
                columns = self._columns[key] = Columns(entries)
            source = f"{self.name} {known.scope}"
            self.observer.recorder.put(
                Measured(attempt.step, now(), columns, found.numbers, source)
            )


def _shape(starts: Sequence[Any]) -> tuple[type, ...]:
    first = starts[0] if starts else None
    if first is None:
        return ()
    return (type(first), *(type(parent) for parent, _ in first.next_functions))


def _margins(place: _Place, starts: Sequence[Any]) -> dict[str, list[Any]]:
    """Operation → least margins, zero-dimensional tensors on their device."""
    import torch

    with torch.no_grad():
        if place.operations and place.looks < SAME_MOST:
            place.looks += 1
            found = [margin_of(operation, starts) for operation in place.operations]
            if not any(margin is None for margin in found):
                return _by_name(place.operations, found)
        place.looks = 0
        place.operations = operations(starts, NODES_MOST, OPERATIONS_MOST)
        found = [margin_of(operation, starts) for operation in place.operations]
        return _by_name(place.operations, found)


def _by_name(known: Sequence[Operation], margins: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for operation, margin in zip(known, margins, strict=True):
        if margin is not None:
            grouped.setdefault(operation.name, []).append(margin)
    return grouped


def _least(values: list[Any]) -> Any:
    """The least of numbers on one device; of several devices those of the first."""
    import torch

    if len(values) == 1:
        return values[0]
    first = values[0]
    same = [value for value in values if value.device == first.device]
    if any(value.dtype is not first.dtype for value in same):
        same = [value.float() for value in same]
    return torch.stack(same).amin()
