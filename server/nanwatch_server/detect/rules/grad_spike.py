"""Rule 4 on the total gradient norm: spikes against the last 128 records. Marks, not alarms.

Spikes that become the rule are what new tasks, penalties that rise and heavy tails show in good
health (R asks for a warning at 5 of 20); those that are harm show in the loss or grow further,
which `loss_spike` and `grad_explosion` tell.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import deviation, log_or_nan, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

RECENT = 24
LAYERS = "grad_norm_layer"


class GradSpike(TickRule):
    """Robust z of the logarithm over median and MAD."""

    name = "grad_spike"
    reads = ("grad_norm",)
    beside = ("loudest", "loudest_norm")
    keep = 256
    needs = 96
    calm = "Gradient norm without spikes for 200 records"
    OWN = ("names",)

    def begin(self) -> None:
        self.names: list[str] = []
        """Layers by number."""
        self._numbered: tuple[tuple[str, ...], F64] = ((), np.empty(0))
        """Names as they came last, and their numbers."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts. Which layer was the loudest is kept beside each norm."""
        if LAYERS in block.layers and len(block.layers[LAYERS][0]):
            names, norms = block.layers[LAYERS]
            rows = np.where(np.isnan(norms), -np.inf, norms).argmax(axis=0)
            loudest = {
                "loudest": self._numbers(names)[rows],
                "loudest_norm": norms[rows, np.arange(len(rows))],
            }
            block = replace(block, scalars={**block.scalars, **loudest})
        return super().update(block)

    def _numbers(self, names: tuple[str, ...]) -> F64:
        if names != self._numbered[0]:
            known = set(self.names)
            self.names += [name for name in names if name not in known]
            number_of = {name: number for number, name in enumerate(self.names)}
            self._numbered = names, np.array([number_of[name] for name in names], np.float64)
        return self._numbered[1]

    def judge(self) -> Verdict:
        limits = self.limits
        norms = self.last(128 + RECENT)
        if norms[-8:].max() < 0.999 * limits["times"] * norms.min():
            return QUIET  # nearly always; logarithms would say the same
        logs = log_or_nan(norms)
        logs = logs[np.isfinite(logs)]
        if len(logs) < 64:
            return QUIET
        if logs[-8:].max() - logs.min() <= math.log(limits["times"]):
            return QUIET  # nothing can stand so far above the median
        past, recent = logs[:-RECENT], logs[-RECENT:]
        level = middle(past)
        spread = max(deviation(past, level), limits["floor"])
        far = (recent - level > limits["sigma"] * spread) & (
            recent - level >= math.log(limits["times"])
        )
        hits = int(far.sum())
        if not far[-8:].any():
            return QUIET
        top = float(np.exp(min(700.0, recent.max())))
        onset = int(self.steps(RECENT)[int(np.argmax(far))])
        at = int(np.argmax(self.last(RECENT)))
        layer = self._loudest(RECENT, at, top)
        return Verdict(1, onset, self._say(top, math.exp(level), hits, layer))

    def _loudest(self, over: int, at: int, norm: float) -> str:
        """The layer that makes up most of the norm of a record, if one does."""
        number = self.last(over, "loudest")[at]
        share = self.last(over, "loudest_norm")[at] / norm
        if not (np.isfinite(number) and share >= self.limits["share"]):
            return ""
        return self.names[int(number)]

    def _say(self, top: float, usual: float, hits: int, layer: str) -> Said:
        many = f"{hits} of the last {RECENT} records" if hits > 1 else "one record"
        return Said(
            title=f"Gradient norm spikes to {short(top)}, usually {short(usual)}",
            message=(
                f"{many[0].upper()}{many[1:]} stood more than {number(self.limits['times'])} times "
                f"above the median of the 128 before, {number(usual)}; the largest is "
                f"{number(top)} at step {self.step}."
                f"{f' Most of it comes from {layer}.' if layer else ''}"
            ),
            evidence=(
                Evidence(
                    label="Gradient norm",
                    value=number(top),
                    limit=number(usual * self.limits["times"]),
                    kind="grad_norm",
                    scope=self.scope,
                    layer=layer,
                ),
            ),
            kind="grad_norm",
            layer=layer,
        )
