"""`run.finite(name, value)`: watches anything for numbers that are not finite.

A batch from a replay buffer, a context vector, the hidden state of a recurrent net: tensors,
arrays, numbers, and dicts, lists or tuples of them. `run.Run.finite` calls it, on any thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanwatch.contract.frames import NonFinite
from nanwatch.contract.limits import to_name
from nanwatch.probes.observations import Health
from nanwatch.probes.tensors import EMPTY, Numbers, is_tensor, read_all
from nanwatch.record import Catalog, Row

if TYPE_CHECKING:
    from nanwatch.probes.observer import Observer

DEPTH_MOST = 6
LEAVES_MOST = 1_000


@dataclass(slots=True)
class Watched:
    """Non-finite elements of one value."""

    step: int
    time: float
    name: str
    scope: str
    stage: str
    health: Health
    numbers: Numbers
    """NaN and infinities in turn, of every tensor on a device."""
    nan: int
    """Found on the host already."""
    inf: int
    total: int
    """Tensors, arrays and numbers looked at."""

    def ready(self) -> bool:
        """True once the device has delivered the counts."""
        return self.numbers.ready()

    def rows(self, catalog: Catalog) -> Iterable[Row | NonFinite]:
        """The count, and a report when an episode begins."""
        counts = self.numbers.get()
        nan, inf = self.nan + int(sum(counts[::2])), self.inf + int(sum(counts[1::2]))
        number = catalog.id_of("nonfinite", self.scope, self.name, self.stage)
        if number >= 0:
            source = f"finite {self.stage} {self.scope} {self.name}"
            yield Row(self.step, self.time, (number,), [float(nan + inf)], source)
        else:
            catalog.refused += 1
        key = f"{self.scope} {self.stage} {self.name}"
        if self.health.turned_bad(key, "watched", nan + inf > 0):
            yield NonFinite(
                step=self.step,
                time=self.time,
                where="watched",
                scope=self.scope,
                nan=nan,
                inf=inf,
                total=self.total,
                layers=[self.name],
            )


def watch(observer: Observer, name: str, value: Any, scope: str, stage: str) -> None:
    """Count what is not finite in `value`; never waits for a device."""
    started = time.perf_counter()
    tally = _Tally()
    tally.add(value, 0)
    if tally.total == 0:
        observer.recorder.count_drop("not a number")
        return
    observer.recorder.put(
        Watched(
            observer.clock.step,
            time.time(),
            to_name(str(name)),
            to_name(scope) if scope else "",
            to_name(stage),
            observer.health,
            read_all(tally.pending) if tally.pending else EMPTY,
            tally.nan,
            tally.inf,
            tally.total,
        )
    )
    observer.overhead.spent(time.perf_counter() - started)


class _Tally:
    """Counts over the leaves of a nested value."""

    def __init__(self) -> None:
        self.nan = self.inf = self.total = 0
        self.pending: list[Any] = []
        """Counts that lie on a device: NaN and infinities in turn."""

    def add(self, value: Any, depth: int) -> None:
        """One value, or what it holds."""
        if self.total >= LEAVES_MOST or depth > DEPTH_MOST:
            return
        if is_tensor(value):
            self._tensor(value)
        elif isinstance(value, dict):
            for inner in list(value.values()):
                self.add(inner, depth + 1)
        elif isinstance(value, list | tuple):
            for inner in value:
                self.add(inner, depth + 1)
        elif isinstance(value, int):
            self.total += 1
        elif isinstance(value, float):
            self.total += 1
            self.nan += math.isnan(value)
            self.inf += math.isinf(value)
        elif hasattr(value, "dtype") and hasattr(value, "ndim"):
            self._array(value)

    def _tensor(self, tensor: Any) -> None:
        import torch

        tensor = tensor.detach()
        if hasattr(type(tensor), "to_local"):
            tensor = tensor.to_local()
        if tensor.is_sparse:
            tensor = tensor.coalesce().values()
        if tensor.device.type == "meta":
            return
        self.total += 1
        if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
            return
        with torch.no_grad():
            if tensor.device.type == "cpu" and math.isfinite(float(tensor.sum().abs())):
                return  # the sum is not finite if an element is not, and six times as quick
            pair = (tensor.isnan().sum(), tensor.isinf().sum())
        if tensor.device.type == "cpu":
            self.nan += int(pair[0])
            self.inf += int(pair[1])
        else:
            self.pending += pair

    def _array(self, array: Any) -> None:
        """An array of numpy, or anything that computes like one."""
        if hasattr(array, "compressed"):
            array = array.compressed()  # what is masked is no number
        if getattr(array.dtype, "kind", "f") not in "fc":
            self.total += array.dtype.kind in "iub"
            return
        self.total += 1
        self.nan += int((array != array).sum())
        self.inf += int((abs(array) == math.inf).sum())
