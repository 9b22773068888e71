"""What the training thread hands to the background thread, and how it becomes rows.

Each class has `ready` (are the device's numbers here?) and `rows` (background thread only).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nanwatch.contract.frames import Mark, NonFinite
from nanwatch.contract.kinds import MOMENTS
from nanwatch.contract.limits import to_name
from nanwatch.probes import gradients, loss
from nanwatch.probes.attempts import APPLIED, SCALER_SKIPPED
from nanwatch.probes.gradients import Norms
from nanwatch.probes.tensors import Numbers, is_tensor, moments
from nanwatch.record import Catalog, Row, series_key

LAYERS_REPORTED_MAX = 32


class Health:
    """Non-finite episodes of one scope: the first bad attempt is reported, then counted."""

    def __init__(self) -> None:
        self.bad: dict[tuple[str, str], bool] = {}
        self.noticed = False
        """Set on the background thread, cleared by the training thread: measure more often."""

    def turned_bad(self, scope: str, where: str, bad: bool) -> bool:
        """True at the first bad attempt of an episode."""
        before = self.bad.get((scope, where), False)
        self.bad[scope, where] = bad
        if bad:
            self.noticed = True
        return bad and not before


@dataclass(slots=True)
class ClosedAttempt:
    """Everything known of an attempt that has just closed."""

    scope: str
    step: int
    time: float
    outcome: int
    health: Health
    roots: list[Numbers] = field(default_factory=list)
    divisors: list[float] = field(default_factory=list)
    logged_loss: bool = False
    norms: Norms | None = None
    clip_threshold: float | None = None
    found_inf: Numbers | None = None
    """Fused optimizers under a scaler: above 0 if the step changed nothing."""
    rates: list[tuple[str, float, float]] = field(default_factory=list)
    """(group name, used, scheduled)."""
    factor: float = 1.0
    step_time: float | None = None
    loss_scale: Numbers | None = None

    def ready(self) -> bool:
        """True once every number is on the host."""
        waiting = [*self.roots, self.found_inf, self.loss_scale]
        if self.norms is not None:
            waiting.append(self.norms.numbers)
        return all(number is None or number.ready() for number in waiting)

    def rows(self, catalog: Catalog) -> Iterable[Row | Mark | NonFinite]:
        """One row with all series of the attempt, then a report if it just turned non-finite."""
        ids: list[int] = []
        values: list[float] = []

        def add(kind: str, value: float, layer: str = "") -> None:
            number = catalog.id_of(kind, self.scope, layer)
            if number >= 0:
                ids.append(number)
                values.append(value)

        reports: list[NonFinite] = []
        outcome = self._outcome()
        bad_tensors = 0
        if self.roots and not self.logged_loss:
            value = loss.combine([root.get()[0] for root in self.roots], self.divisors)
            add("loss", value)
            reports.extend(self._report_loss(value))
        if self.norms is not None:
            found = self.norms.numbers.get()
            add("grad_norm", gradients.total(found))
            bad_tensors = sum(not math.isfinite(v) for v in found)
            reports.extend(self._report_gradient(found, bad_tensors))
        if self.clip_threshold is not None:
            add("clip_threshold", self.clip_threshold)
        add("update_applied", 1.0 if outcome == APPLIED else 0.0)
        add("skip_reason", float(outcome))
        for group, used, scheduled in self.rates:
            add("lr", used, group)
            add("lr_scheduled", scheduled, group)
        if self.factor != 1.0:
            add("lr_factor", self.factor)
        if self.loss_scale is not None:
            add("loss_scale", self.loss_scale.get()[0])
        if self.step_time is not None:
            add("step_time", self.step_time)
        if bad_tensors:
            add("nonfinite", float(bad_tensors))
        if self.norms is not None:
            self._add_layers(catalog, ids, values)
        yield Row(self.step, self.time, tuple(ids), values, f"attempt {self.scope}")
        yield from reports

    def _outcome(self) -> int:
        if self.found_inf is not None and self.found_inf.get()[0] > 0:
            return SCALER_SKIPPED
        return self.outcome

    def _add_layers(self, catalog: Catalog, ids: list[int], values: list[float]) -> None:
        assert self.norms is not None
        layout = self.norms.layout
        if not layout.ids:
            layout.ids = tuple(
                catalog.id_of("grad_norm_layer", self.scope, layer) for layer in layout.layers
            )
        found = gradients.by_layer(layout, self.norms.positions, self.norms.numbers.get())
        for index, value in found.items():
            if layout.ids[index] >= 0:
                ids.append(layout.ids[index])
                values.append(value)

    def _report_loss(self, value: float) -> Iterable[NonFinite]:
        if self.health.turned_bad(self.scope, "loss", not math.isfinite(value)):
            yield NonFinite(
                step=self.step,
                time=self.time,
                where="loss",
                scope=self.scope,
                nan=int(math.isnan(value)),
                inf=int(math.isinf(value)),
                total=1,
            )

    def _report_gradient(self, found: list[float], bad: int) -> Iterable[NonFinite]:
        if not self.health.turned_bad(self.scope, "gradient", bad > 0):
            return
        assert self.norms is not None
        layout, positions = self.norms.layout, self.norms.positions
        names = [
            to_name(layout.names[position])
            for position, value in zip(positions, found, strict=True)
            if not math.isfinite(value)
        ]
        yield NonFinite(
            step=self.step,
            time=self.time,
            where="gradient",
            scope=self.scope,
            nan=sum(math.isnan(v) for v in found),
            inf=sum(math.isinf(v) for v in found),
            total=len(found),
            layers=names[:LAYERS_REPORTED_MAX],
        )


@dataclass(slots=True)
class Logged:
    """Numbers the user logged, already reduced."""

    step: int
    time: float
    scope: str
    stage: str
    values: dict[str, float | Numbers]
    health: Health

    def ready(self) -> bool:
        """True once every number is on the host."""
        return all(not isinstance(v, Numbers) or v.ready() for v in self.values.values())

    def rows(self, catalog: Catalog) -> Iterable[Row | NonFinite]:
        """One row with all logged series."""
        ids: list[int] = []
        values: list[float] = []
        bad: list[str] = []
        names = " ".join(self.values)
        for name, value in self.values.items():
            for kind, scope, layer, number in _named(name, self.scope, value):
                series = catalog.id_of(kind, scope, layer, self.stage)
                if series >= 0:
                    ids.append(series)
                    values.append(number)
                if not math.isfinite(number):
                    bad.append(layer or kind)
        if ids:
            # Two names may be one series (`a b`, `a_b`): the later value stands.
            row = dict(zip(ids, values, strict=True))
            source = f"log {self.stage} {names}"
            yield Row(self.step, self.time, tuple(row), list(row.values()), source)
        if self.health.turned_bad(self.scope, "logged", bool(bad)):
            yield NonFinite(
                step=self.step,
                time=self.time,
                where="logged",
                scope=self.scope,
                nan=len(bad),
                total=len(values),
                layers=[to_name(name) for name in bad[:LAYERS_REPORTED_MAX]],
            )


_Q_NAMES = frozenset({"q", "q_values", "qf", "q_value"})
_REWARD_NAMES = frozenset({"reward", "rewards"})


def _named(name: str, scope: str, value: float | Numbers) -> Iterable[tuple[str, str, str, float]]:
    """(kind, scope, layer, number) for one logged name; tensors give their moments."""
    if not isinstance(value, Numbers):
        if name in _REWARD_NAMES:
            name = "reward"
        yield (*series_key(name, scope), value)
        return
    numbers = value.get()
    if len(numbers) != len(MOMENTS):
        return
    mean, _, low, high = numbers
    prefix, _, last = name.rpartition(".")
    scope = to_name(prefix) if prefix else scope
    if last in _Q_NAMES:
        for moment, number in zip(MOMENTS, numbers, strict=True):
            yield f"q_{moment}", scope, "", number
    elif last in _REWARD_NAMES:
        yield "reward", scope, "", mean
        yield "reward_abs_max", scope, "", max(abs(low), abs(high)) if low == low else low
    else:
        kind, scope, layer = series_key(name, scope)
        yield kind, scope, layer, mean
        if kind == "custom":
            for moment, number in zip(MOMENTS[1:], numbers[1:], strict=True):
                yield "custom", scope, f"{layer}_{moment}", number


@dataclass(slots=True)
class Marked:
    """A mark, in order with the points."""

    mark: Mark

    def ready(self) -> bool:
        """Always."""
        return True

    def rows(self, catalog: Catalog) -> Iterable[Mark]:
        """The mark."""
        return (self.mark,)


def reduce(value: Any) -> float | Numbers | None:
    """A logged value as a number or as moments on their way; None if it is neither.

    Called on the training thread: tensors are reduced on their device, nothing is waited for.
    """
    try:
        if isinstance(value, float | int):
            return float(value)
        if is_tensor(value):
            return _reduce_tensor(value)
        if getattr(value, "ndim", 0) and hasattr(value, "mean"):
            return _reduce_array(value)
        return float(value)
    except Exception:
        # Anything at all may be logged: what is no number is counted by the caller.
        return None


def _reduce_tensor(value: Any) -> float | Numbers | None:
    if value.is_complex() or value.numel() == 0:
        return None
    if value.numel() == 1 and value.device.type == "cpu":
        return float(value)
    return moments(value)


def _reduce_array(value: Any) -> Numbers | None:
    if value.size == 0:
        return None
    return Numbers(
        [float(value.mean()), float(value.std()), float(value.min()), float(value.max())]
    )
