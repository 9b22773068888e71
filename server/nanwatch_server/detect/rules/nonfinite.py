"""Rule 1: a value that is not finite. Reads losses, norms and Q statistics, per record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import Alarm, Event
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.domain.facts import EPOCHS, number
from nanwatch_server.domain.models import Evidence, Finding

WATCHED = {
    "loss": "Loss",
    "grad_norm": "Gradient norm",
    "param_norm": "Parameter norm",
    "q_mean": "Mean Q-value",
    "q_min": "Smallest Q-value",
    "q_max": "Largest Q-value",
    "reward": "Reward",
    "logit_max": "Largest logit",
}
OUTSIDE = frozenset({"reward"})
"""Kinds that do not pass through an update: bad news, not yet poison."""


class NonFinite(Rule):
    """Critical where the update was applied; a skipped update protected the weights."""

    name = "nonfinite"
    any_of = tuple(WATCHED)
    STATE = ("alarms", "attempts", "streak", "begun")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.attempts = 0
        self.begun = -1
        """Step of the first gradient norm."""
        self.streak = 0
        """Gradient norms in a row that are not finite, where nobody says if they were applied."""
        self.alarms = [Alarm() for _ in WATCHED]

    def update(self, block: Block) -> list[Finding]:
        found: list[Finding] = []
        if self.begun < 0 and "grad_norm" in block.scalars:
            self.begun = int(block.steps[0])
        for alarm, kind in zip(self.alarms, WATCHED, strict=True):
            values = block.scalars.get(kind)
            if values is None or (block.late and kind != "grad_norm"):
                continue
            bad = ~np.isfinite(values)
            if not np.count_nonzero(bad) and alarm.rests(len(block), ()):
                continue  # nearly always
            severities = self._severities(kind, bad, block)
            for event in alarm.sweep(severities):
                if event.fresh:
                    alarm.onset = int(block.steps[event.at])
                said = self._say(alarm, kind, values, block, event)
                found.append(finding(self.context, self.name, block, event, alarm.onset, said))
        if "update_applied" in block.scalars and not block.late:
            self.attempts += len(block)
        return found

    def _severities(self, kind: str, bad: NDArray[np.bool_], block: Block) -> NDArray[np.int8]:
        result = np.where(bad, 2 if kind in OUTSIDE else 3, 0).astype(np.int8)
        applied = block.scalars.get("update_applied")
        if applied is None and kind == "grad_norm":
            return self._unknown(bad, result, block)
        if applied is None or kind in OUTSIDE or kind == "param_norm":
            return result
        skipped = bad & (applied == 0)
        result[skipped] = 1 if kind == "grad_norm" else 2
        reason = block.scalars.get("skip_reason")
        if reason is not None:
            # a fresh scaler halves its scale up to 16 times: nothing is wrong
            early = np.arange(self.attempts, self.attempts + len(block)) < self.limits["exempt"]
            result[skipped & early & (reason == 1)] = 0
        return result

    def _unknown(
        self, bad: NDArray[np.bool_], result: NDArray[np.int8], block: Block
    ) -> NDArray[np.int8]:
        """A log without a word of updates: a scaler may have skipped this one, as it does now and
        then in good health, and many times while it looks for its first scale. Several in a row
        are trouble either way."""
        loss = block.scalars.get("loss")
        epochs = EPOCHS in self.context.facts
        for at in range(len(bad)):
            self.streak = self.streak + 1 if bad[at] else 0
            early = block.steps[at] - self.begun < self.limits["exempt"] and not epochs
            # what a filter writes in the place of NaN is finite too
            early &= loss is not None and bool(np.isfinite(loss[at])) and loss[at] != 0
            if 0 < self.streak < self.limits["unknown"] or (bad[at] and early):
                result[at] = 1
        return result

    def _say(self, alarm: Alarm, kind: str, values: F64, block: Block, event: Event) -> Said:
        label = WATCHED[kind]
        if event.what == "clear":
            return cleared(f"{label} finite again for 200 records", kind, alarm)
        word, step = number(float(values[event.at])), int(block.steps[event.at])
        layers = self._layers(block, event.at)
        applied = block.scalars.get("update_applied")
        held = applied is not None and applied[event.at] == 0
        count = f", {event.hits} records so far" if event.hits > 1 else ""
        after = "The update was applied: whatever it touched is now damaged."
        if held:
            after = "The update was skipped, so the weights are unchanged."
        elif applied is None and kind == "grad_norm":
            after = "Nothing here says whether the update was applied or skipped."
        if kind in OUTSIDE:
            after = "Everything computed from it will be non-finite too."
        evidence = [Evidence(label=label, value=word, limit="finite", kind=kind, scope=self.scope)]
        evidence += [
            Evidence(
                label="Layer", value=layer, kind="grad_norm_layer", scope=self.scope, layer=layer
            )
            for layer in layers[:3]
        ]
        where = f" {_where(layers, block)}" if layers else ""
        return Said(
            title=f"{label} is {word} since step {alarm.onset}"
            if event.what == "repeat"
            else f"{label} is {word} at step {step}",
            message=(
                f"{label} is {word} at step {step} (first at step {alarm.onset}{count}). "
                f"{after}{where}"
            ),
            evidence=tuple(evidence),
            kind=kind,
            layer=layers[0] if layers else "",
        )

    @staticmethod
    def _layers(block: Block, at: int) -> list[str]:
        if "grad_norm_layer" not in block.layers:
            return []
        names, values = block.layers["grad_norm_layer"]
        return [names[row] for row in np.flatnonzero(~np.isfinite(values[:, at]))]


def _where(layers: list[str], block: Block) -> str:
    total = len(block.layers["grad_norm_layer"][0])
    if len(layers) == total:
        return f"All {total} layers at once, so no single layer is to blame."
    return f"{len(layers)} of {total} layers, first {layers[0]}."
