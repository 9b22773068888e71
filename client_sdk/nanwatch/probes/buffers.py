"""Numbers that no optimizer moves: buffers (BatchNorm's running statistics) and parameters that are
copied or averaged (EMA models, target networks) or frozen.

A NaN in them does not show in any gradient, but in the next evaluation, or in every target. Inf
in a buffer that held it from the start is meant (a mask of attention). Root modules come from the
registry; only their modules are remembered, weakly, never their tensors.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.contract.frames import NonFinite
from nanwatch.contract.limits import to_name
from nanwatch.probes.discovery import clean
from nanwatch.probes.observations import Health
from nanwatch.probes.overhead import OFF
from nanwatch.probes.passes import (
    Found,
    Stopwatch,
    Value,
    fused_norms,
    gather,
    is_sharded,
    local,
    measurable,
    plan,
    report_of,
    total,
)
from nanwatch.probes.probe import Probe
from nanwatch.probes.tensors import capturing

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.passes import Plan, Window
    from nanwatch.probes.registry import Known

RUNNING = frozenset({"running_mean", "running_var"})
"""Buffers that layers write in the forward pass: Inf in them is never meant."""

TENSORS_MOST = 4_096
"""Tensors of one scope that are looked at; the coverage says if there are more."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor is found: the module may put another one there."""

    module: weakref.ref[Any]
    key: str
    name: str

    def tensor(self, where: str) -> Any:
        """The tensor that is there now, or None."""
        module = self.module()
        held = module.__dict__.get(where) if module is not None else None
        tensor = held[self.key] if held is not None and self.key in held else None
        return None if tensor is None or is_sharded(tensor) else tensor


@dataclass(slots=True, eq=False)
class _Group:
    """Buffers, or parameters without an optimizer, of one scope."""

    scope: str
    where: str
    """`_buffers` or `_parameters`, as modules call them."""
    places: list[_Place]
    plan: Plan
    health: Health
    masks: dict[tuple[str, str], bool]
    """(scope, name) → whether it held Inf when it was first measured. Background thread only."""
    values: dict[int, float] = field(default_factory=dict)
    """Item → value at its last pass. Background thread only."""

    @property
    def of_buffers(self) -> bool:
        """Absolute maxima of buffers; else norms of parameters."""
        return self.where == "_buffers"

    def take(
        self, window: Window, numbers: list[int], values: Sequence[float]
    ) -> tuple[list[Value], NonFinite | None]:
        """Values of one pass."""
        for number, _ in window.items:
            self.values.pop(number, None)
        self.values.update(
            (number, value)
            for number, value in zip(numbers, values, strict=True)
            if not self._is_mask(number, value)
        )
        made: list[Value] = []
        if self.of_buffers:
            for layer in window.layers:
                found = [self.values[i] for i in self.plan.members[layer] if i in self.values]
                if found:
                    largest = max(found) if all(v == v for v in found) else float("nan")
                    made.append(("buffer_abs_max_layer", self.places[layer].name, largest))
        elif window.last and self.values:
            made.append(("param_norm", "", total(self.values.values())))
        named = (
            (self.places[self.plan.items[number].position].name, value)
            for number, value in self.values.items()
        )
        where = "buffer" if self.of_buffers else "parameter"
        return made, report_of(self.health, where, self.scope, named)

    def _is_mask(self, number: int, value: float) -> bool:
        """Inf that is meant: there from the start, in a buffer that no layer writes."""
        if not self.of_buffers:
            return False
        place = self.places[self.plan.items[number].position]
        held = value == math.inf
        return self.masks.setdefault((self.scope, place.name), held) and (
            held and place.key not in RUNNING
        )


class Buffers(Probe):
    """Largest absolute value of every buffer; norms of parameters that no optimizer owns."""

    name: ClassVar[str] = "buffers and copies"
    share: ClassVar[float] = 0.03

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._groups: list[_Group] = []
        self._masks: dict[tuple[str, str], bool] = {}
        self._watch = Stopwatch()
        self._turn = 0
        self._left_out = 0

    def named(self) -> None:
        """Find buffers, and parameters without an optimizer; only where they are is kept."""
        registry = self.observer.registry
        owners = registry.owner_of()
        by_scope: dict[tuple[str, str], list[tuple[_Place, Any]]] = {}
        seen = set(owners)  # what an optimizer moves is measured there
        taken = {known.scope for known in registry.live()}
        roots = {name: root for name, ref in registry.roots.items() if (root := ref()) is not None}
        for name, root in roots.items():
            owned = {owners[id(p)] for p in root.parameters() if id(p) in owners}
            known = registry.known.get(min(owned)) if len(owned) == 1 else None
            # Several root modules may belong to one optimizer: tell them apart.
            prefix = f"{name}." if len(roots) > 1 and owned else ""
            rest = f"{name}-rest" if owned else f"{name}-copy" if name in taken else name
            scope = known.scope if known is not None else "" if owned else rest
            found = by_scope.setdefault((scope, "_buffers"), [])
            found.extend(_places(root, "_buffers", prefix, seen))
            found = by_scope.setdefault((rest, "_parameters"), [])
            found.extend(_places(root, "_parameters", "", seen))
        self._left_out = 0
        self._groups = []
        for (scope, where), found in by_scope.items():
            self._left_out += max(0, len(found) - TENSORS_MOST)
            found = found[:TENSORS_MOST]
            if found:
                windows = plan([(i, i, tensor) for i, (_, tensor) in enumerate(found)])
                places = [place for place, _ in found]
                health = self.observer.health
                self._groups.append(_Group(scope, where, places, windows, health, self._masks))

    def closed(self, known: Known, attempt: Attempt) -> None:
        """After an attempt of the main optimizer: one window of every group."""
        if not attempt.is_main or not self._groups or not self.cadence.due():
            return
        if capturing():
            return
        for group in self._groups:
            found = self._measure(group)
            if found is not None:
                found.step, found.time = attempt.step, time.time()
                self.observer.recorder.put(found)
        self.cadence.spent(self._watch.take())

    def _measure(self, group: _Group) -> Found | None:
        import torch

        window = group.plan.next()
        numbers: list[int] = []
        tensors: list[Any] = []
        for number, item in window.items:
            tensor = group.places[item.position].tensor(group.where)
            if tensor is None:
                continue
            part = item.of(local(tensor))
            if part.numel() and measurable(part):
                numbers.append(number)
                tensors.append(part)
        if not tensors:
            return None
        self._watch.start(tensors)
        with torch.no_grad():
            order = float("inf") if group.of_buffers else 2
            read = gather(fused_norms(tensors, order))
        self._watch.stop(tensors)
        return Found(
            0,
            0.0,
            group.scope,
            f"{group.where} {group.scope}",
            read,
            lambda values: group.take(window, numbers, values),
        )

    def coverage(self) -> str:
        """Cadence, and how many tensors were too many."""
        if not self._groups:
            return ""
        text = self.cadence.text()
        if text == OFF:
            return text
        windows = max(len(group.plan.windows) for group in self._groups)
        if windows > 1:
            text += f", a part at a time ({windows} parts)"
        return text + (f", {self._left_out} tensors left out" if self._left_out else "")


def _places(root: Any, where: str, prefix: str, seen: set[int]) -> Iterator[tuple[_Place, Any]]:
    for path, module in root.named_modules():
        for key, tensor in (module.__dict__.get(where) or {}).items():
            if tensor is None or id(tensor) in seen or is_sharded(tensor):
                continue
            seen.add(id(tensor))
            if measurable(tensor) and tensor.numel():
                name = to_name(prefix + clean(f"{path}.{key}" if path else key))
                yield _Place(weakref.ref(module), key, name), tensor
