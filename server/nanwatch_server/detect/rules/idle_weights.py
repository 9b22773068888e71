"""Trainings that only look alive: steps are taken, weights do not move.

The learning rate is zero, no gradient arrives, or the step changed nothing, for long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import Alarm
from nanwatch_server.detect.block import I64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.robust import Ring
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import fact
from nanwatch_server.domain.models import Evidence, Finding

USER_SKIPPED = 2
"""`skip_reason` of an attempt whose gradients were cleared without a step (docs of the kinds)."""

THROWN_KEPT = 256
"""... so many of them: updates are measured in tables of their own and come later."""


class _Sign(NamedTuple):
    """One way in which weights stand still."""

    kind: str
    label: str
    why: str


SIGNS = (
    _Sign("lr", "Learning rate is 0", "the optimizer multiplies every update by it"),
    _Sign("grad_norm", "Gradient is exactly 0", "no part of the loss reaches the weights"),
    _Sign("update_norm", "Steps change nothing", "the optimizer holds other weights, or all of "
          "them are frozen"),
)  # fmt: skip


class IdleWeights(Rule):
    """Zeros in a row of kinds that are never zero while something is learnt."""

    name = "idle_weights"
    any_of = tuple(sign.kind for sign in SIGNS)
    STATE = ("alarms", "streaks", "begins", "moved", "thrown", "cleared")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarms = [Alarm() for _ in SIGNS]
        self.restart()

    def restart(self) -> None:
        self.streaks = [0] * len(SIGNS)
        self.begins = [-1] * len(SIGNS)
        self.moved = [-1] * len(SIGNS)
        """Step of the first record that was not zero."""
        self.thrown = Ring(1, THROWN_KEPT, np.int64)
        """Newest attempts whose gradients the user cleared without a step."""
        self.cleared = 0
        """Updates of zero in a row that came right behind such an attempt."""

    def update(self, block: Block) -> list[Finding]:
        found: list[Finding] = []
        behind = self._look_for_cleared(block)
        for index, sign in enumerate(SIGNS):
            values = block.scalars.get(sign.kind)
            if values is None:
                continue
            zero = values == 0
            alarm = self.alarms[index]
            if not zero.any() and not alarm.level:
                self.streaks[index] = 0
                if self.moved[index] < 0:
                    self.moved[index] = int(block.steps[0])
                alarm.seen += len(block)
                continue
            severities, begins = self._severities(index, zero, block)
            for event in alarm.sweep(severities):
                if event.fresh:
                    alarm.onset = int(begins[event.at])
                step, clear = int(block.steps[event.at]), event.what == "clear"
                said = self._say(sign, alarm, clear, step, int(behind[event.at]))
                found.append(finding(self.context, self.name, block, event, alarm.onset, said))
        return found

    def _look_for_cleared(self, block: Block) -> I64:
        """Per record: how many updates of zero in a row up to it had such an attempt right
        before them."""
        found = np.full(len(block), self.cleared, np.int64)
        before = self.thrown.window(THROWN_KEPT)[0]
        reasons = block.scalars.get("skip_reason")
        if reasons is not None and (thrown := reasons == USER_SKIPPED).any():
            before = np.concatenate([before, block.steps[thrown]])
            self.thrown.push(block.steps[None, thrown])
        updates = block.scalars.get("update_norm")
        if updates is None or not before.size:
            return found
        behind = np.isin(block.steps - 1, before)
        for at in np.flatnonzero(np.isfinite(updates)).tolist():
            self.cleared = self.cleared + 1 if updates[at] == 0 and behind[at] else 0
            found[at:] = self.cleared
        return found

    def _severities(
        self, index: int, zero: NDArray[np.bool_], block: Block
    ) -> tuple[NDArray[np.int8], I64]:
        """Severity per record, and the step at which the zeros up to it began."""
        applied = block.scalars.get("update_applied")
        loss = block.scalars.get("loss")
        severities = np.zeros(len(zero), np.int8)
        begins = np.zeros(len(zero), np.int64)
        for at in range(len(zero)):
            step = int(block.steps[at])
            if not zero[at]:
                self.streaks[index] = 0
                self.moved[index] = self.moved[index] if self.moved[index] >= 0 else step
                continue
            if applied is not None and applied[at] == 0:
                continue  # skipped: `skip_streak` speaks of that
            if not self.streaks[index]:
                self.begins[index] = step
            self.streaks[index] += 1
            begins[at] = self.begins[index]
            # a schedule that ends at 0 after thousands of steps has done its work
            began = self.moved[index] if self.moved[index] >= 0 else self.begins[index]
            patience = max(
                self.limits["steps"], self.limits["share"] * (self.begins[index] - began)
            )
            lasted = step - self.begins[index] + 1
            if lasted >= patience and self.streaks[index] >= self.limits["records"]:
                solved = loss is not None and loss[at] == 0 and self._solved(index, step)
                severities[at] = 1 if solved or self._converged(index) else 2
        return severities, begins

    def _solved(self, index: int, step: int) -> bool:
        """A loss of 0 is an end where it had come down (a hinge that every row satisfies), or
        where a policy still earns what it did; it is none where a number stands in for NaN."""
        if self.context.learns_policy():
            return not self.context.fell(step)
        known = self.context.progress_of(self.scope)
        before = known.upto(self.begins[index] - 1, 8)
        before = before[before != 0]
        return not (before.size and before[-1] > self.limits["solved"] * known.first > 0)

    def _converged(self, index: int) -> bool:
        """L-BFGS on all data stops at its tolerance: then it has arrived."""
        name = fact(self.context.facts, "optimizer", "optim", "opt") or ""
        return SIGNS[index].kind != "lr" and self.moved[index] >= 0 and "lbfgs" in name.lower()

    def _say(self, sign: _Sign, alarm: Alarm, clear: bool, step: int, behind: int) -> Said:
        if clear:
            return cleared(f"{sign.label}: no longer", sign.kind, alarm)
        if sign.kind == "update_norm" and behind >= self.limits["records"]:
            return self._say_cleared(alarm, step, behind)
        return Said(
            title=f"{sign.label} since step {alarm.onset}: nothing is learnt",
            message=(
                f"{sign.label} at every step from {alarm.onset} to {step}: {sign.why}. Steps are "
                "taken, but the weights stand still."
            ),
            evidence=(
                Evidence(label=sign.label, value="0", limit="> 0", kind=sign.kind,
                         scope=self.scope),
            ),
            kind=sign.kind,
        )  # fmt: skip

    def _say_cleared(self, alarm: Alarm, step: int, behind: int) -> Said:
        return Said(
            title=f"Gradients are cleared before each step since step {alarm.onset}",
            message=(
                f"The last {behind} updates measured up to step {step} are exactly 0, each "
                "right after gradients that were computed and then cleared: `zero_grad()` stands "
                "between `backward()` and `step()`, so every step finds nothing."
            ),
            evidence=(
                Evidence(label=labels.CLEARED_EARLY, value=str(behind), kind="update_norm",
                         scope=self.scope),
            ),
            kind="update_norm",
        )  # fmt: skip
