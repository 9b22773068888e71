"""The optimizer's own state: norms of every moment, and Adam's RMS of gradient over second moment.

RMS_t = sqrt(mean(g_t² / max(u_t, eps²))), u_t the bias-corrected second moment *with* this
gradient in it: the quantity of StableAdamW (arXiv:2304.13013, section 3), which exceeds about 2.3
one to eight steps before loss spikes. It is taken before the step, where gradient and state are
both there, with u_t worked out from the state: no optimizer needs to be asked for its rule.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.contract.frames import NonFinite
from nanwatch.probes.attempts import APPLIED
from nanwatch.probes.observations import Health
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
    is_sharded,
    local,
    measurable,
    plan_of,
    report_of,
    total,
)
from nanwatch.probes.probe import Probe
from nanwatch.probes.tensors import capturing

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known, Layout

SECOND_MOMENT = "exp_avg_sq"
"""What Adam, AdamW, NAdam, RAdam, Lamb and their kin call it."""

LEAST_FLOOR = 1e-37
"""eps² must not vanish in float32: a dead unit would give 0 / 0."""

STATES_MOST = 16
"""Kinds of state that are told apart."""


@dataclass(slots=True, eq=False)
class _Moments:
    """What is known of the state of one optimizer."""

    layout: Layout
    plan: Plan
    health: Health
    sharded: bool
    norms: dict[tuple[str, int], float] = field(default_factory=dict)
    """(state, item) → norm. Background thread only, as the next."""
    ratios: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Item → (sum of g²/u, number of elements)."""

    def take(
        self, window: Window, scope: str, read: _Read, values: Sequence[float]
    ) -> tuple[list[Value], NonFinite | None]:
        """Values of one pass: norms of moments and of ratios, steps that lie on a device."""
        n, m = len(read.keys), len(read.ratios)
        for number, _ in window.items:
            self.ratios.pop(number, None)
        self.norms.update(zip(read.keys, values[:n], strict=True))
        for ratio, value in zip(read.ratios, values[n : n + m], strict=True):
            count = values[n + m + ratio.step_at] + 1 if ratio.step_at >= 0 else ratio.count
            correction = (1 - ratio.beta**count) / ratio.factor
            self.ratios[ratio.number] = (value * value * correction, ratio.elements)
        made: list[Value] = []
        for layer in window.layers:
            found = [self.ratios[i] for i in self.plan.members[layer] if i in self.ratios]
            if found:
                made.append(("adam_rms_layer", self.layout.layers[layer], _rms(found)))
        if window.last:
            if self.ratios:
                made.append(("adam_rms", "", _rms(self.ratios.values())))
            by_state: dict[str, list[float]] = {}
            for (state, _), value in self.norms.items():
                by_state.setdefault(state, []).append(value)
            if not self.sharded:
                made += [("moment_norm", state, total(found)) for state, found in by_state.items()]
        names = self.layout.names
        report = report_of(
            self.health,
            "moment",
            scope,
            (
                (f"{names[self.plan.items[number].position]}.{state}", value)
                for (state, number), value in self.norms.items()
            ),
        )
        return made, report


@dataclass(slots=True)
class _Ratio:
    """How the sum of g²/u of one item becomes a mean."""

    number: int
    elements: int
    beta: float
    count: float
    """Steps with this one, for the bias correction."""
    factor: float = 1.0
    """What u was divided by."""
    step_at: int = -1
    """Where its step counter is, if that lies on a device."""


@dataclass(slots=True)
class _Read:
    """What one pass measures."""

    keys: list[tuple[str, int]] = field(default_factory=list)
    moments: list[Any] = field(default_factory=list)
    ratios: list[_Ratio] = field(default_factory=list)
    squares: list[Any] = field(default_factory=list)
    """(gradient, second moment, floor) of each of `ratios`."""
    steps: list[Any] = field(default_factory=list)
    """Step counters that lie on a device."""


def _rms(found: Iterable[tuple[float, int]]) -> float:
    pairs = list(found)
    return math.sqrt(sum(value for value, _ in pairs) / sum(count for _, count in pairs))


class Moments(Probe):
    """Norms of the optimizer's state, and Adam's RMS."""

    name: ClassVar[str] = "optimizer moments"
    share: ClassVar[float] = 0.08

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.cadence = self.scoped = ScopedCadence(observer.overhead, self.share)
        self._moments: dict[int, _Moments] = {}
        self._watch = Stopwatch()
        self._result: Found | None = None
        self._due = False

    def named(self) -> None:
        """Optimizers may be new or gone, layouts others."""
        live = {known.number: known for known in self.observer.registry.live()}
        self.scoped.named([known.scope for known in live.values() if known.named])
        self._moments = {
            number: moments
            for number, moments in self._moments.items()
            if number in live and live[number].layout is moments.layout
        }

    def before_step(self, known: Known) -> None:
        """Gradient and state of the last step are there."""
        self._result = None
        self._due = known.layout is not None and self.scoped.of(known.scope).due()
        self._due = self._due and not capturing()
        if self._due and not known.by_closure:
            self._measure(known, after=False)

    def after_step(self, known: Known) -> None:
        """Where gradients come into being inside the step, only now are they there."""
        if self._due and known.by_closure:
            self._measure(known, after=True)
        self._due = False

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Hand over."""
        result, self._result = self._result, None
        if result is not None and attempt.outcome == APPLIED:
            result.step, result.time = attempt.step, time.time()
            self.observer.recorder.put(result)

    def _measure(self, known: Known, *, after: bool) -> None:
        import torch

        parameters = known.parameters()
        moments = self._of(known, parameters)
        if moments is None:
            return
        self._watch.start(())
        window = moments.plan.next()
        with torch.no_grad():
            read = self._read(known, parameters, window, after)
            self._watch.stop(())
            if not read.keys:
                self.scoped.of(known.scope).spent(self._watch.take())
                return
            self._watch.start(read.moments)
            ratios = _ratios(read, getattr(known.optimizer, "grad_scale", None), after)
            found = fused_norms(read.moments, wide=[_is_square(state) for state, _ in read.keys])
            numbers = gather([*found, *ratios, *read.steps])
            self._watch.stop(read.moments)
        read.moments, read.squares, read.steps = [], [], []
        scope = known.scope
        self._result = Found(
            0,
            0.0,
            scope,
            f"moments {scope}",
            numbers,
            lambda values: moments.take(window, scope, read, values),
        )
        self.scoped.of(scope).spent(self._watch.take())

    def _of(self, known: Known, parameters: list[Any]) -> _Moments | None:
        layout = known.layout
        found = self._moments.get(known.number)
        if layout is None or (found is not None and found.layout is layout):
            return found if layout is not None else None
        placed = plan_of(layout, parameters)
        if placed is None:
            return None
        found = self._moments[known.number] = _Moments(
            layout, placed[0], self.observer.health, placed[1]
        )
        return found

    def _read(self, known: Known, parameters: list[Any], window: Window, after: bool) -> _Read:
        """What there is to measure: tensors of the state, gradients beside second moments."""
        optimizer = known.optimizer
        groups = [
            (group, beta)
            for group in optimizer.param_groups
            for beta in (_second_beta(group),)
            for _ in group["params"]
        ]
        states = getattr(optimizer, "state", None) or {}
        read = _Read()
        counters: dict[int, int] = {}
        for number, item in window.items:
            parameter = parameters[item.position]
            state = states.get(parameter)
            if not isinstance(state, dict):
                continue
            for key, tensor in state.items():
                part = _part(tensor, parameter, item) if key != "step" else None
                if part is not None and len(read.keys) < STATES_MOST * len(window.items):
                    read.keys.append((str(key), number))
                    read.moments.append(part)
            gradient = parameter.grad
            group, beta = groups[item.position]
            if gradient is None or beta is None or SECOND_MOMENT not in state:
                continue
            if gradient.is_sparse:
                continue
            second, first = _part(state[SECOND_MOMENT], parameter, item), item.of(local(gradient))
            count = state.get("step", group.get("step"))
            if second is None or second.shape != first.shape or count is None:
                continue
            if not first.numel() or not measurable(first):
                continue
            ratio = _Ratio(number, first.numel(), beta, 0.0)
            if hasattr(count, "device") and count.device.type != "cpu":
                # Read with the rest: asking for it now would wait for the device.
                if id(count) not in counters:
                    counters[id(count)] = len(read.steps)
                    read.steps.append(count.detach().reshape(()) - (1 if after else 0))
                ratio.step_at = counters[id(count)]
            else:
                ratio.count = float(count) + (0 if after else 1)
            read.ratios.append(ratio)
            read.squares.append((first, second, max(float(group["eps"]) ** 2, LEAST_FLOOR)))
        return read

    def coverage(self) -> str:
        """Cadence and windows; nothing where an optimizer keeps no state."""
        if not any(moments.norms for moments in self._moments.values()):
            return ""
        windows = max(len(moments.plan.windows) for moments in self._moments.values())
        parts = f", a part of the layers at a time ({windows} parts)" if windows > 1 else ""
        sharded = any(moments.sharded for moments in self._moments.values())
        return self.scoped.text() + parts + (", this rank's shards only" if sharded else "")


def _part(tensor: Any, parameter: Any, item: Item) -> Any:
    """The item's part of a state tensor; None if it holds no numbers to measure."""
    if not hasattr(tensor, "numel"):
        return None
    same = tensor.shape == parameter.shape
    if is_sharded(tensor):
        tensor = tensor.to_local()
    if not measurable(tensor) or tensor.numel() == 0:
        return None
    if same:
        return item.of(tensor)
    # Factored moments, directions of LBFGS: as a whole, once. Scalars are counters.
    return tensor if item.start == 0 and tensor.numel() > 1 else None


def _is_square(state: str) -> bool:
    """Squares of gradients: their own squares would be denormal, which a CPU is slow with."""
    return "sq" in state or state == "sum"


def _second_beta(group: dict[str, Any]) -> float | None:
    """β₂ of Adam's kin, above 0 and below 1; None where asking would wait for a device."""
    betas, eps = group.get("betas"), group.get("eps")
    if not isinstance(betas, tuple | list) or len(betas) < 2 or not isinstance(eps, float | int):
        return None
    beta = betas[1]
    if hasattr(beta, "device") and beta.device.type != "cpu":
        return None
    return float(beta) if 0 < float(beta) < 1 else None


def _ratios(read: _Read, scale: Any, after: bool) -> list[Any]:
    """L2 norm of g/sqrt(max(u, eps²)) of each item, but for `factor` and the bias correction."""
    import torch

    operations: Any = torch
    groups: dict[Any, list[int]] = {}
    for index, ((first, second, floor), ratio) in enumerate(
        zip(read.squares, read.ratios, strict=True)
    ):
        key = (first.device, first.dtype, second.dtype, second.device, floor, ratio.beta)
        groups.setdefault(key, []).append(index)
    result: list[Any] = [None] * len(read.squares)
    for (*_, floor, beta), indices in groups.items():
        gradients = _real([read.squares[index][0] for index in indices])
        seconds = _real([read.squares[index][1] for index in indices])
        if scale is not None and not after:
            # A fused optimizer under a GradScaler divides inside its step.
            divisor = scale.to(gradients[0].device, gradients[0].dtype)
            gradients = operations._foreach_div(gradients, divisor)
        # The second moment before the step, over beta, so that one operation adds the gradient.
        factor = 1.0 if after else beta
        if after:
            bounds = operations._foreach_clamp_min(seconds, floor)
        else:
            bounds = operations._foreach_addcmul(
                seconds, gradients, gradients, value=(1 - beta) / beta
            )
            operations._foreach_clamp_min_(bounds, floor / beta)
        operations._foreach_sqrt_(bounds)
        ratios = operations._foreach_div(gradients, bounds)
        for index, value in zip(indices, operations._foreach_norm(ratios), strict=True):
            result[index] = value
            read.ratios[index].factor = factor
    return result


def _real(tensors: Sequence[Any]) -> list[Any]:
    """In float32 at least; complex numbers as pairs, as Adam treats them."""
    import torch

    if tensors[0].is_complex():
        return [torch.view_as_real(tensor) for tensor in tensors]
    if tensors[0].dtype in (torch.float16, torch.bfloat16):
        return [tensor.float() for tensor in tensors]
    return list(tensors)
