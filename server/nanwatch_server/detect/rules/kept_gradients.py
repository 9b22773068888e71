"""Gradients that are never set to zero: every step goes by the sum of all gradients so far."""

from __future__ import annotations

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence


class KeptGradients(TickRule):
    """Attempts that began with the gradients of the one before, nearly all of them in a row. The
    SDK sends nothing of the others."""

    name = "kept_gradients"
    reads = ("grad_kept",)
    keep = 16
    calm = "Gradients are set to zero again"

    def judge(self) -> Verdict:
        records = min(self.keep, max(2, int(self.limits["records"])))
        if self.count < records:
            return QUIET
        first = int(self.steps(records)[0])
        if self.step - first >= records + self.limits["others"]:
            return QUIET
        if not (self.last(records) > 0).all():
            return QUIET  # cleared in a way that only the value shows
        kept = float(self.last(1)[0])
        message = (
            f"The last {records} attempts up to step {self.step} began with the gradients of the "
            "ones before: nothing set them to zero after the optimizer had stepped, so each "
            "step goes by the sum of all gradients so far instead of its own."
        )
        evidence = Evidence(
            label="Largest |gradient| left over",
            value=number(kept),
            limit="0",
            kind=self.kind,
            scope=self.scope,
        )
        said = Said("Gradients are never set to zero", message, (evidence,), self.kind)
        return Verdict(2, first, said)
