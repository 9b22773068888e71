"""What the training thread hands to the background thread, and how it becomes rows.

Each class has `ready` (are the device's numbers here?) and `rows` (background thread only).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nanwatch.contract.frames import Mark, NonFinite
from nanwatch.contract.limits import to_name
from nanwatch.probes import gradients, loss
from nanwatch.probes.attempts import APPLIED, SCALER_SKIPPED
from nanwatch.probes.gradients import Norms
from nanwatch.probes.rates import StepRate
from nanwatch.probes.tensors import Number, Numbers, is_here, number_of
from nanwatch.record import Catalog, Row

LAYERS_REPORTED_MAX = 32
UNREACHED = "unreached_fraction_layer"


NOTICES_MOST = 5
"""Episodes of one thing after which more is measured: what comes and goes would switch the budget
off for the whole run."""


class Health:
    """Non-finite episodes of what is measured: the first bad attempt is reported, then counted."""

    def __init__(self) -> None:
        self.bad: dict[tuple[str, str], bool] = {}
        self.episodes: Counter[tuple[str, str]] = Counter()
        self.noticed = False
        """Set on the background thread, cleared by the training thread: measure more often."""

    def turned_bad(self, scope: str, where: str, bad: bool) -> bool:
        """True at the first bad attempt of an episode. What goes on being bad is no news."""
        key = scope, where
        begins = bad and not self.bad.get(key, False)
        self.bad[key] = bad
        if begins:
            self.episodes[key] += 1
            if self.episodes[key] <= NOTICES_MOST:
                self.noticed = True
        return begins


@dataclass(slots=True)
class ClosedAttempt:
    """Everything known of an attempt that has just closed."""

    scope: str
    step: int
    time: float
    outcome: int
    health: Health
    roots: Sequence[Number] = ()
    divisors: Sequence[float] = ()
    logged_loss: bool = False
    norms: Norms | None = None
    clip_threshold: float | None = None
    norm_clipped: bool = False
    """True if `norms` are those that one clipping by the L2 norm of all gradients has used."""
    found_inf: Numbers | None = None
    """Fused optimizers under a scaler: above 0 if the step changed nothing."""
    outcome_if_found: int = SCALER_SKIPPED
    """Who made that flag: the scaler, or the guard (`HELD`)."""
    rates: Sequence[StepRate] = ()
    factor: float = 1.0
    step_time: float | None = None
    loss_scale: Numbers | None = None
    overhead: float | None = None
    """Share of the step time spent inside the SDK, now and then."""

    def ready(self) -> bool:
        """True once every number is on the host."""
        if self.norms is not None and not self.norms.numbers.ready():
            return False
        for number in (*self.roots, self.found_inf, self.loss_scale):
            if number is not None and not is_here(number):
                return False
        return all(is_here(used) and is_here(plan) for _, used, plan in self.rates)

    def rows(self, catalog: Catalog) -> Iterable[Row | Mark | NonFinite]:
        """One row with all series of the attempt, then a report if it just turned non-finite."""
        ids: list[int] = []
        values: list[float] = []

        def add(kind: str, value: float, layer: str = "") -> None:
            number = catalog.id_of(kind, self.scope, layer)
            if number >= 0:
                ids.append(number)
                values.append(value)
            else:
                catalog.refused += 1

        reports: list[NonFinite] = []
        outcome = self._outcome()
        bad_tensors, norm = 0, None
        if self.roots and not self.logged_loss:
            add("loss", loss_now := self._loss())
            reports.extend(self._report_loss(loss_now))
        if self.norms is not None:
            found = self.norms.numbers.get()
            norm = gradients.total(found)
            add(self.norms.kind, norm)
            if not math.isfinite(norm):
                bad_tensors = sum(not math.isfinite(v) for v in found)
            reports.extend(self._report_gradient(found, bad_tensors))
        if self.clip_threshold is not None:
            add("clip_threshold", self.clip_threshold)
            if norm is not None and self.norm_clipped:
                add("grad_norm_clipped", after_clipping(norm, self.clip_threshold))
        add("update_applied", 1.0 if outcome == APPLIED else 0.0)
        add("skip_reason", float(outcome))
        for group, used, scheduled in self.rates:
            add("lr", number_of(used), group)
            add("lr_scheduled", number_of(scheduled), group)
        for kind, number in (
            ("lr_factor", self.factor if self.factor != 1.0 else None),
            ("loss_scale", self.loss_scale.get()[0] if self.loss_scale is not None else None),
            ("step_time", self.step_time),
            ("sdk_overhead", self.overhead),
        ):
            if number is not None:
                add(kind, number)
        if bad_tensors:
            add("nonfinite", float(bad_tensors))
        if self.norms is not None:
            self._add_layers(catalog, ids, values)
        yield Row(self.step, self.time, tuple(ids), values, f"attempt {self.scope}")
        yield from reports

    def _loss(self) -> float:
        return loss.combine([number_of(root) for root in self.roots], self.divisors)

    def _outcome(self) -> int:
        if self.found_inf is not None and self.found_inf.get()[0] > 0:
            return self.outcome_if_found
        return self.outcome

    def _add_layers(self, catalog: Catalog, ids: list[int], values: list[float]) -> None:
        assert self.norms is not None
        layout, positions = self.norms.layout, self.norms.positions
        known_for, combine = layout.combine
        if known_for is not positions:
            combine = gradients.Combine(layout, positions)
            kind = f"{self.norms.kind}_layer"
            combine.ids = tuple(
                catalog.id_of(kind, self.scope, layout.layers[layer]) for layer in combine.layers
            )
            layout.combine = (positions, combine)
        norms = self.norms.numbers.get()
        if layout.unreached or 0.0 in norms:
            self._add_unreached(catalog, norms, ids, values)
        found = combine(norms)
        if -1 not in combine.ids:
            ids.extend(combine.ids)
            values.extend(found)
            return
        for number, value in zip(combine.ids, found, strict=True):
            if number >= 0:
                ids.append(number)
                values.append(value)
            else:
                catalog.refused += 1

    def _add_unreached(
        self, catalog: Catalog, norms: Sequence[float], ids: list[int], values: list[float]
    ) -> None:
        """Shares of weights that no gradient reaches, of layers that have others as well; the norm
        of a layer says it where there are none. 0 where one does again."""
        assert self.norms is not None
        layout = self.norms.layout
        if layout.sharded or not math.isfinite(gradients.total(norms)):
            return  # of a parameter this rank may hold nothing; NaN is neither 0 nor a way
        positions = self.norms.positions
        shares = gradients.unreached(layout, positions, norms)
        here = {layout.layer_of[position] for position in positions}
        for layer, share in shares.items():
            fresh = share < 1 and layer not in layout.unreached
            if fresh and len(layout.unreached) < LAYERS_REPORTED_MAX:
                number = catalog.id_of(UNREACHED, self.scope, layout.layers[layer])
                catalog.refused += number < 0
                layout.unreached[layer] = number
        for layer, number in layout.unreached.items():
            if number >= 0 and layer in here:
                ids.append(number)
                values.append(shares.get(layer, 0.0))

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

    def _report_gradient(self, found: Sequence[float], bad: int) -> Iterable[NonFinite]:
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


def after_clipping(norm: float, threshold: float) -> float:
    """L2 norm that `clip_grad_norm_` leaves of `norm`, by torch's own formula: the gradients are
    multiplied by min(1, threshold / (norm + 1e-6))."""
    return norm * min(1.0, threshold / (norm + 1e-6))


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
