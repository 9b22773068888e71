"""What every further probe is: called at the events of an attempt, allowed a share of the budget.

Loss, gradients and clipping belong to the observer itself; everything else (updates, moments,
buffers, activations, critics, the system) is a `Probe` in a file of its own and one line in
`catalogue.py`. The observer calls the methods on the training thread, each behind a guard of its
own: a probe that keeps failing is switched off and says so in the coverage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nanwatch.guard import GUARD
from nanwatch.probes.overhead import Cadence
from nanwatch.probes.tensors import Numbers
from nanwatch.record import Catalog, Row

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

FAILURES_MOST = 5
"""After as many failures a probe is switched off for this run."""


class Probe:
    """One thing that is measured besides loss and gradients. Training thread only.

    A method that made a pass over tensors reports its time by `self.cadence.spent`; cheap
    bookkeeping needs no cadence. Nothing may wait for a device.
    """

    name: ClassVar[str] = ""
    """Name in the coverage, such as `update ratio`."""
    share: ClassVar[float] = 0.1
    """Part of the overhead budget that its passes may use."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.cadence = Cadence(observer.overhead, self.share)

    def install(self) -> None:
        """Put in whatever it needs to see. Called once, before the training."""

    def remove(self) -> None:
        """Take it out again."""

    def named(self) -> None:
        """Optimizers and root modules were (again) found and named."""

    def before_backward(self, backward: Backward) -> None:
        """A backward pass that reaches parameters of a known optimizer is about to run."""

    def after_backward(self, backward: Backward) -> None:
        """It ran."""

    def before_step(self, known: Known) -> None:
        """The outermost step of an optimizer is about to run."""

    def after_step(self, known: Known) -> None:
        """It ran; parameters have their new values."""

    def closed(self, known: Known, attempt: Attempt) -> None:
        """An attempt has closed, however it closed. Put `Measured` into `observer.recorder`."""

    def gone(self, known: Known) -> None:
        """An optimizer is gone: what is kept of it is of no use."""

    def coverage(self) -> str:
        """What is measured and how often, or why not. Empty: nothing to be measured here."""
        return self.cadence.text()


@dataclass(slots=True)
class Columns:
    """Series that are always measured together, with their ids once the catalog knows them."""

    entries: Sequence[tuple[str, str, str]]
    """(kind, scope, layer) of each."""
    stage: str = "train"
    ids: tuple[int, ...] = ()

    def resolve(self, catalog: Catalog) -> tuple[int, ...]:
        """Ids of the entries, -1 where there are too many series. Background thread only."""
        if len(self.ids) != len(self.entries):
            self.ids = tuple(
                catalog.id_of(kind, scope, layer, self.stage) for kind, scope, layer in self.entries
            )
        return self.ids


@dataclass(slots=True)
class Measured:
    """Numbers of one pass of a probe: as many as the columns have entries."""

    step: int
    time: float
    columns: Columns
    numbers: Numbers
    source: str
    """Probe and scope: rows of one source keep their order."""
    finish: Callable[[Sequence[float]], list[float]] | None = None
    """Makes the values of the columns from what was read; background thread."""
    finished: list[float] = field(default_factory=list)

    def ready(self) -> bool:
        """True once the device has delivered the values."""
        return self.numbers.ready()

    def rows(self, catalog: Catalog) -> Iterable[Row]:
        """One row."""
        values = self.numbers.get()
        if self.finish is not None:
            values = self.finish(values)
        ids = self.columns.resolve(catalog)
        kept = [(i, v) for i, v in zip(ids, values, strict=True) if i >= 0]
        if kept:
            yield Row(
                self.step,
                self.time,
                tuple(i for i, _ in kept),
                [v for _, v in kept],
                self.source,
            )


P = TypeVar("P", bound=Probe)


class Probes:
    """The further probes of one run, each behind its own guard."""

    def __init__(self, observer: Observer, kinds: Sequence[type[Probe]]) -> None:
        self._failures: dict[str, int] = {}
        self._why_off: dict[str, str] = {}
        self._observer = observer
        self.active: list[Probe] = []
        self._listeners: dict[str, tuple[Callable[..., None], ...]] = {}
        """Event → methods of the probes that do something at it."""
        for kind in kinds:
            try:
                self.active.append(kind(observer))
            except Exception as error:
                self._fail(kind.name, error)

    def find(self, kind: type[P]) -> P | None:
        """The probe of this kind, if it is on."""
        return next((probe for probe in self.active if isinstance(probe, kind)), None)

    def call(self, event: str, *args: Any) -> None:
        """`event` on every probe that is still on."""
        listeners = self._listeners.get(event)
        if listeners is None:
            listeners = self._listeners[event] = self._listening(event)
        for method in listeners:
            try:
                method(*args)
            except Exception as error:
                self._failed(method.__self__, error)  # type: ignore[attr-defined]

    def _listening(self, event: str) -> tuple[Callable[..., None], ...]:
        nothing = getattr(Probe, event)
        return tuple(
            getattr(probe, event)
            for probe in self.active
            if getattr(type(probe), event) is not nothing
        )

    def _failed(self, probe: Probe, error: Exception) -> None:
        self._fail(probe.name, error)
        if self._failures[probe.name] >= FAILURES_MOST and probe in self.active:
            self.active.remove(probe)
            self._listeners = {}
            self._why_off[probe.name] = f"off: {type(error).__name__}"

    def _fail(self, name: str, error: Exception) -> None:
        self._failures[name] = self._failures.get(name, 0) + 1
        if not name:
            self._why_off[name] = f"off: {type(error).__name__}"
        GUARD.note(f"probe {name}", error)

    def alert(self) -> None:
        """Something was noticed: every probe measures at each attempt for a while."""
        for probe in self.active:
            probe.cadence.alert()

    def coverage(self) -> dict[str, str]:
        """What each probe measures, and why one does not."""
        said = dict(self._why_off)
        for probe in self.active:
            text = probe.coverage()
            if text:
                said[probe.name] = text
        return said


def now() -> float:
    """Wall clock of a measurement, seconds since 1970."""
    return time.time()
