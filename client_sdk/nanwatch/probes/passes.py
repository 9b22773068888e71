"""What probes that go over many tensors share: a cadence per optimizer, windows, fused norms.

A pass never touches more than a bounded number of bytes: larger models are gone over window by
window. `updates`, `moments` and `buffers` use this; nothing here knows what they measure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from nanwatch.contract.frames import NonFinite
from nanwatch.contract.limits import to_name
from nanwatch.probes.observations import LAYERS_REPORTED_MAX, Health
from nanwatch.probes.overhead import Cadence, Overhead
from nanwatch.probes.registry import Layout
from nanwatch.probes.tensors import Joined, Numbers, Picked, norms
from nanwatch.record import Catalog, Row

BYTES_MOST_HOST = 32 << 20
"""Tensors of one pass on a CPU: about 10 ms of one core."""
BYTES_MOST_DEVICE = 256 << 20
"""The same on an accelerator; also bounds the memory that a copy takes for the time of a step."""

DEAR_SHARE = 0.05
"""Passes that take more of a step than this are not made more often after a notice."""

Value = tuple[str, str, float]
"""(kind, layer, value)."""


class ScopedCadence(Cadence):
    """A cadence for each optimizer, because one for all would measure the same one always."""

    def __init__(self, overhead: Overhead, share: float) -> None:
        super().__init__(overhead, share)
        self._by_scope: dict[str, Cadence] = {}
        self._whole = share

    def named(self, scopes: Sequence[str]) -> None:
        """These optimizers exist now: they divide the share."""
        share = self._whole / max(1, len(scopes))
        kept: dict[str, Cadence] = {}
        for scope in scopes:
            old = self._by_scope.get(scope)
            kept[scope] = (
                old if old is not None and old._share == share else Cadence(self._overhead, share)
            )
        self._by_scope = kept

    def of(self, scope: str) -> Cadence:
        """Cadence of one optimizer."""
        found = self._by_scope.get(scope)
        if found is None:
            found = self._by_scope[scope] = Cadence(self._overhead, self._whole)
        return found

    def alert(self) -> None:
        """Every attempt for a while, where a pass is cheap enough for that."""
        for cadence in self._by_scope.values():
            if cadence._cost_s <= DEAR_SHARE * self._overhead.step_s:
                cadence.alert()

    def _parts(self) -> Sequence[Cadence]:
        """One for each optimizer."""
        return tuple(self._by_scope.values())


class Stopwatch:
    """Time of a pass: on the host, and on a CUDA device as far as it is known by now.

    Events are recorded around the pass and read at a later pass: nothing waits for the device.
    """

    def __init__(self) -> None:
        self._host_s = 0.0
        self._open: list[tuple[Any, Any]] = []
        self._started = 0.0
        self._event: Any = None

    def start(self, tensors: Sequence[Any]) -> None:
        """Work on these tensors begins."""
        self._started = time.perf_counter()
        self._event = None
        if tensors and tensors[0].device.type == "cuda" and len(self._open) < 8:
            self._event = _event(tensors[0].device)

    def stop(self, tensors: Sequence[Any]) -> None:
        """It has been queued."""
        if self._event is not None:
            self._open.append((self._event, _event(tensors[0].device)))
            self._event = None
        self._host_s += time.perf_counter() - self._started

    def take(self) -> float:
        """Seconds since the last call."""
        seconds, self._host_s = self._host_s, 0.0
        while self._open and self._open[0][1].query():
            first, last = self._open.pop(0)
            seconds += first.elapsed_time(last) / 1e3
        return seconds


def _event(device: Any) -> Any:
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


# --- windows -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A tensor, or rows `start` to `stop` of a large one."""

    position: int
    layer: int
    start: int = 0
    stop: int = -1
    """-1: all of it."""

    def of(self, tensor: Any) -> Any:
        """Its part of a tensor."""
        return tensor if self.stop < 0 else tensor[self.start : self.stop]


@dataclass(slots=True)
class Window:
    """What one pass measures, and the layers that are complete after it."""

    items: list[tuple[int, Item]]
    """(number of the item in the plan, item)."""
    layers: list[int] = field(default_factory=list)
    last: bool = False


@dataclass(slots=True)
class Plan:
    """All tensors of one optimizer in windows. `next` goes round."""

    items: list[Item]
    windows: list[Window]
    members: dict[int, list[int]]
    """Layer → numbers of its items."""
    turn: int = 0

    def next(self) -> Window:
        """The window whose turn it is."""
        window = self.windows[self.turn]
        self.turn = (self.turn + 1) % len(self.windows)
        return window


def plan(tensors: Sequence[tuple[int, int, Any]], bytes_most: int | None = None) -> Plan:
    """Windows over (position, layer, tensor); a layer's tensors lie side by side."""
    if bytes_most is None:
        host = not tensors or tensors[0][2].device.type == "cpu"
        bytes_most = BYTES_MOST_HOST if host else BYTES_MOST_DEVICE
    items: list[Item] = []
    sizes: list[int] = []
    for position, layer, tensor in sorted(tensors, key=lambda entry: (entry[1], entry[0])):
        size = tensor.numel() * tensor.element_size()
        rows = tensor.shape[0] if tensor.dim() else 1
        parts = min(rows, -(-size // bytes_most)) if size > bytes_most else 1
        if parts <= 1:
            items.append(Item(position, layer))
            sizes.append(size)
            continue
        height = -(-rows // parts)
        for start in range(0, rows, height):
            stop = min(rows, start + height)
            items.append(Item(position, layer, start, stop))
            sizes.append(size * (stop - start) // rows)
    windows, room = [Window([])], bytes_most
    members: dict[int, list[int]] = {}
    for number, (item, size) in enumerate(zip(items, sizes, strict=True)):
        if size > room and windows[-1].items:
            windows.append(Window([]))
            room = bytes_most
        room -= size
        windows[-1].items.append((number, item))
        members.setdefault(item.layer, []).append(number)
        if number + 1 == len(items) or items[number + 1].layer != item.layer:
            windows[-1].layers.append(item.layer)
    windows[-1].last = True
    return Plan(items, windows, members)


# --- tensors -------------------------------------------------------------------------------------


def plan_of(layout: Layout, parameters: Sequence[Any]) -> tuple[Plan, bool] | None:
    """Windows over the parameters of an optimizer, and whether any is sharded.

    None if the layout is not theirs (yet), or nothing can be measured.
    """
    if len(parameters) != len(layout.names):
        return None
    tensors = [
        (position, layout.layer_of[position], tensor)
        for position, parameter in enumerate(parameters)
        if measurable(tensor := local(parameter))
    ]
    return (plan(tensors), any(map(is_sharded, parameters))) if tensors else None


def local(tensor: Any) -> Any:
    """The tensor without autograd; of a sharded one this rank's part."""
    return tensor.to_local().detach() if is_sharded(tensor) else tensor.detach()


def is_sharded(tensor: Any) -> bool:
    """True for a DTensor: norms of its local part are no norms of the whole."""
    return hasattr(type(tensor), "to_local")


def measurable(tensor: Any) -> bool:
    """True for real and complex floating-point numbers in memory."""
    return (
        tensor.dtype in _measured_types()
        and not tensor.is_meta
        and not tensor.is_sparse
        and not tensor.is_mkldnn
    )


@cache
def _measured_types() -> frozenset[Any]:
    import torch

    return frozenset(
        (
            torch.float32,
            torch.float64,
            torch.float16,
            torch.bfloat16,
            torch.complex64,
            torch.complex128,
        )
    )


def grouped(tensors: Sequence[Any], marks: Sequence[bool] | None = None) -> Iterable[list[int]]:
    """Indices of the tensors that one fused call may take together."""
    groups: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        mark = marks is not None and marks[index]
        groups.setdefault((tensor.device, tensor.dtype, mark), []).append(index)
    return groups.values()


def fused_norms(
    tensors: Sequence[Any], order: float = 2, wide: Sequence[bool] | None = None
) -> list[Any]:
    """Norm of each tensor as a zero-dimensional tensor; half precision is added up in float32.

    On a CPU those marked `wide` are added up in float64 and given in float32.
    """
    import torch

    operations: Any = torch
    result: list[Any] = [None] * len(tensors)
    marked = wide if wide is not None else [False] * len(tensors)
    for indices in grouped(tensors, marked):
        first = tensors[indices[0]]
        half = first.dtype in (torch.float16, torch.bfloat16)
        doubled = marked[indices[0]] and first.device.type == "cpu" and not first.is_complex()
        dtype = torch.float64 if doubled else torch.float32 if half else None
        group = [tensors[index] for index in indices]
        found = operations._foreach_norm(group, order, dtype)
        if doubled and first.dtype is not torch.float64:
            found = torch.stack(list(found)).float().unbind()
        for index, norm in zip(indices, found, strict=True):
            result[index] = norm
    return result


def gather(tensors: Sequence[Any]) -> Numbers:
    """Zero-dimensional tensors as one vector in order: one copy for each device, no waiting."""
    places: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        places.setdefault(tensor.device, []).append(index)
    if len(places) <= 1:
        return norms(tensors)
    parts = [norms([tensors[index] for index in indices]) for indices in places.values()]
    order = [index for indices in places.values() for index in indices]
    return Picked(Joined(parts), sorted(range(len(order)), key=order.__getitem__))


def total(values: Iterable[float]) -> float:
    """L2 norm of norms without overflow; NaN if one of them is."""
    found = list(values)
    return math.nan if any(value != value for value in found) else math.hypot(*found)


# --- hand-over -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """Numbers of one pass; `make` turns them into values on the background thread."""

    step: int
    time: float
    scope: str
    source: str
    numbers: Numbers
    make: Callable[[Sequence[float]], tuple[list[Value], NonFinite | None]]

    def ready(self) -> bool:
        """True once the device has delivered the numbers."""
        return self.numbers.ready()

    def rows(self, catalog: Catalog) -> Iterable[Row | NonFinite]:
        """One row, then what turned non-finite."""
        values, report = self.make(self.numbers.get())
        ids: list[int] = []
        kept: list[float] = []
        for kind, layer, value in values:
            number = catalog.id_of(kind, self.scope, layer)
            if number < 0:
                catalog.refused += 1
                continue
            ids.append(number)
            kept.append(value)
        if ids:
            yield Row(self.step, self.time, tuple(ids), kept, self.source)
        if report is not None:
            report.step, report.time = self.step, self.time
            yield report


def report_of(
    health: Health, where: Any, scope: str, values: Iterable[tuple[str, float]]
) -> NonFinite | None:
    """A report if values of (name, value) have just turned non-finite; background thread."""
    bad: dict[str, float] = {}
    names: set[str] = set()
    for name, value in values:
        names.add(name)
        if not math.isfinite(value):
            bad[name] = value
    if not health.turned_bad(scope, where, bool(bad)):
        return None
    return NonFinite(
        step=0,
        time=0.0,
        where=where,
        scope=scope,
        nan=sum(value != value for value in bad.values()),
        inf=sum(value == value for value in bad.values()),
        total=len(names),
        layers=[to_name(name) for name in list(bad)[:LAYERS_REPORTED_MAX]],
    )
