"""How far a step moved the weights: norms of weights and updates, and their ratio, per layer.

Right for every optimizer, because the weights are compared and nothing is computed after the
optimizer's rule: the step's own weight decay and a commanded LR factor are in it. The weights are
copied for the length of a step that is measured, never more than `passes.BYTES_MOST_*` of them.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.contract.frames import NonFinite
from nanwatch.probes.attempts import APPLIED
from nanwatch.probes.observations import Health
from nanwatch.probes.overhead import OFF
from nanwatch.probes.passes import (
    Found,
    Item,
    Plan,
    ScopedCadence,
    Stopwatch,
    Value,
    Window,
    fused_norms,
    gather,
    grouped,
    local,
    plan_of,
    report_of,
    total,
)
from nanwatch.probes.probe import Probe
from nanwatch.probes.tensors import Numbers, capturing

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known, Layout

WITNESSES = 32
"""Parameters whose version counters are looked at in every step."""
WITNESS_STEPS = 3
"""So many steps must have moved the counters before a step that does not says anything."""


@dataclass(slots=True, eq=False)
class _Weights:
    """What is known of the weights of one optimizer."""

    layout: Layout
    plan: Plan
    health: Health
    sharded: bool
    before: dict[int, float] = field(default_factory=dict)
    """Item → norm of the weights at its last pass. Background thread only, as the next."""
    moved: dict[int, float] = field(default_factory=dict)
    """Item → norm of its update; only what had a gradient."""

    def take(
        self,
        window: Window,
        scope: str,
        moving: Sequence[int],
        still: Sequence[int],
        values: Sequence[float],
    ) -> tuple[list[Value], NonFinite | None]:
        """Values of one pass: norms before and of the update, then of what did not move."""
        n = len(moving)
        for number, before, delta in zip(moving, values[:n], values[n : 2 * n], strict=True):
            # An update that is not finite leaves weights that are not.
            self.before[number] = before if delta - delta == 0 else before + delta
            self.moved[number] = delta
        for number, before in zip(still, values[2 * n :], strict=True):
            self.before[number] = before
            self.moved.pop(number, None)
            if math.isinf(before):  # a mask of -inf that nobody trains: no trouble, and no size
                del self.before[number]
        made = [value for layer in window.layers for value in self._layer(layer)]
        if window.last and not self.sharded:
            made.append(("param_norm", "", total(self.before.values())))
            made.append(("update_norm", "", total(self.moved.values())))
        names = self.layout.names
        report = report_of(
            self.health,
            "parameter",
            scope,
            ((names[self.plan.items[i].position], value) for i, value in self.before.items()),
        )
        return made, report

    def _layer(self, layer: int) -> Iterable[Value]:
        name, members = self.layout.layers[layer], self.plan.members[layer]
        weights = total(self.before[i] for i in members if i in self.before)
        deltas = [self.moved[i] for i in members if i in self.moved]
        if not self.sharded:
            yield "param_norm_layer", name, weights
        if not deltas:
            return
        update = total(deltas)
        if not self.sharded:
            yield "update_norm_layer", name, update
        if weights != 0:  # a layer that starts at zero has no ratio yet
            yield "update_ratio_layer", name, update / weights


@dataclass(slots=True, eq=False)
class _Open:
    """A pass between the two ends of a step."""

    known: Known
    weights: _Weights
    window: Window
    entries: list[tuple[int, Item]]
    """Items that may move: copied."""
    negatives: list[Any]
    """Minus the weights before the step."""
    still: list[tuple[int, Item]]


class Updates(Probe):
    """Weight norms, update norms and update ratios."""

    name: ClassVar[str] = "weight updates"
    share: ClassVar[float] = 0.14

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.cadence = self.scoped = ScopedCadence(observer.overhead, self.share)
        self._weights: dict[int, _Weights] = {}
        self._watch = Stopwatch()
        self._open: _Open | None = None
        self._result: Found | None = None
        self._witness = _Witness()

    def named(self) -> None:
        """Optimizers may be new or gone, layouts others."""
        live = list(self.observer.registry.live())
        self.scoped.named([known.scope for known in live if known.named])
        numbers = {known.number for known in live}
        self._weights = {
            number: weights
            for number, weights in self._weights.items()
            if number in numbers and weights.layout is self.observer.registry.known[number].layout
        }
        self._witness.forget(numbers)

    def before_step(self, known: Known) -> None:
        """Copy the weights if this step is to be measured."""
        self._open = self._result = None
        if known.layout is None:
            return
        self._witness.before(known)
        if not self.scoped.of(known.scope).due() or capturing():
            return
        parameters = known.parameters()
        weights = self._of(known, parameters)
        if weights is None:
            return
        import torch

        window = weights.plan.next()
        entries, still = [], []
        for entry in window.items:
            parameter = parameters[entry[1].position]
            may_move = parameter.requires_grad and (known.by_closure or parameter.grad is not None)
            (entries if may_move else still).append(entry)
        tensors = [item.of(local(parameters[item.position])) for _, item in entries]
        self._watch.start(tensors)
        operations: Any = torch
        negatives: list[Any] = [None] * len(tensors)
        with torch.no_grad():
            for indices in grouped(tensors):
                copies = operations._foreach_neg([tensors[index] for index in indices])
                for index, copy in zip(indices, copies, strict=True):
                    negatives[index] = copy
        self._watch.stop(tensors)
        self._open = _Open(known, weights, window, entries, negatives, still)

    def after_step(self, known: Known) -> None:
        """Norms of the weights before and of the difference, in one copy to the host."""
        opened, self._open = self._open, None
        if opened is None or opened.known is not known:
            return
        parameters = known.parameters()
        moving, negatives, still = opened.entries, opened.negatives, opened.still
        if known.by_closure:  # only now can it be told what has a gradient
            moved = [parameters[item.position].grad is not None for _, item in moving]
            if not any(moved):  # cleared within the step, as by some that take two passes
                moved = [True] * len(moving)
            still = still + [e for e, yes in zip(moving, moved, strict=True) if not yes]
            negatives = [n for n, yes in zip(negatives, moved, strict=True) if yes]
            moving = [e for e, yes in zip(moving, moved, strict=True) if yes]
        after = [item.of(local(parameters[item.position])) for _, item in moving]
        rest = [item.of(local(parameters[item.position])) for _, item in still]
        self._watch.start(after or rest)
        numbers = _measure(negatives, after, rest)
        self._watch.stop(after or rest)
        window, weights, scope = opened.window, opened.weights, known.scope
        moving_numbers, still_numbers = [i for i, _ in moving], [i for i, _ in still]
        self._result = Found(
            0,
            0.0,
            scope,
            f"updates {scope}",
            numbers,
            lambda values: weights.take(window, scope, moving_numbers, still_numbers, values),
        )
        self.scoped.of(scope).spent(self._watch.take())

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Hand over what the step brought, or that it changed nothing."""
        result, self._result = self._result, None
        if attempt.outcome != APPLIED:
            return
        untouched = self._witness.untouched(known)
        if result is None:
            if not untouched:
                return
            result = Found(
                0, 0.0, known.scope, f"updates {known.scope}", Numbers([0.0]), _nothing_changed
            )
        result.step, result.time = attempt.step, time.time()
        self.observer.recorder.put(result)

    def remove(self) -> None:
        """Let go of the copies of a step that raised."""
        self._open = self._result = None

    def _of(self, known: Known, parameters: list[Any]) -> _Weights | None:
        layout = known.layout
        found = self._weights.get(known.number)
        if layout is None or (found is not None and found.layout is layout):
            return found if layout is not None else None
        placed = plan_of(layout, parameters)
        if placed is None:
            return None
        found = self._weights[known.number] = _Weights(
            layout, placed[0], self.observer.health, placed[1]
        )
        return found

    def coverage(self) -> str:
        """Cadence, windows, and what cannot be said of sharded weights."""
        text = self.scoped.text()
        if text == OFF:
            return text
        windows = max((len(w.plan.windows) for w in self._weights.values()), default=1)
        if windows > 1:
            text += f", a part of the layers at a time ({windows} parts)"
        if any(w.sharded for w in self._weights.values()):
            text += ", ratios of this rank's shards only"
        return text


def _measure(negatives: list[Any], after: list[Any], rest: list[Any]) -> Numbers:
    """Norms before, norms of the updates, norms of what stood still; uses up `negatives`."""
    import torch

    operations: Any = torch
    with torch.no_grad():
        before = fused_norms(negatives)
        for indices in grouped(after):
            operations._foreach_add_(
                [negatives[index] for index in indices], [after[index] for index in indices]
            )
        return gather([*before, *fused_norms(negatives), *fused_norms(rest)])


def _nothing_changed(values: Sequence[float]) -> tuple[list[Value], NonFinite | None]:
    return [("update_norm", "", values[0])], None


class _Witness:
    """Tells without touching a number that a step wrote to no parameter.

    In-place operations count up a tensor's version. Optimizers that go round the counter (fused
    ones, those that write through `.data`) are told by their first steps, and not judged.
    """

    def __init__(self) -> None:
        self._refs: list[weakref.ref[Any]] = []
        self._versions: list[int] = []
        """Of `_refs` before the step; empty outside of one."""
        self._chosen: dict[int, tuple[Any, list[weakref.ref[Any]]]] = {}
        """Optimizer → (layout, its witnesses)"""
        self._of = -1
        self._steps: dict[int, int] = {}
        """Optimizer → steps that moved a counter; -1 if one of the first did not."""

    def forget(self, live: Iterable[int]) -> None:
        """Only these optimizers exist."""
        numbers = set(live)
        self._steps = {number: n for number, n in self._steps.items() if number in numbers}
        self._chosen.clear()

    def before(self, known: Known) -> None:
        """A step is about to run."""
        self._of, self._versions = -1, []
        if self._steps.get(known.number, 0) < 0:
            return
        layout, refs = self._chosen.get(known.number, (None, []))
        if layout is not known.layout:
            refs = [weakref.ref(p) for p in known.first_parameters(WITNESSES)]
            self._chosen[known.number] = (known.layout, refs)
        self._of, self._refs = known.number, refs
        # Not whether they have gradients: asking makes a Python object for each of those.
        self._versions = [p._version if (p := ref()) is not None else -1 for ref in refs]

    def untouched(self, known: Known) -> bool:
        """True if the step that has just run surely wrote nothing."""
        versions, self._versions = self._versions, []
        if self._of != known.number or not versions:
            return False
        written = False
        for ref, version in zip(self._refs, versions, strict=True):
            parameter = ref()
            if parameter is None or parameter._version != version:
                written = True
                break
        steps = self._steps.get(known.number, 0)
        if steps < WITNESS_STEPS:
            self._steps[known.number] = steps + 1 if written else -1
            return False
        return not written
