"""Loss and gradient norm have both left far behind what the untrained model had, at whatever pace:
either may do so by itself in good health (a game of two, returns that grow), both together do not.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.robust import TICK, median, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

LEVEL_OVER = 24
"""Records of one level."""
FIRST_OVER, FIRST_OVER_COMPETES = 64, 32
"""Records that show an untrained model: of losses that begin near 0 and find their level more, of
those that are at each other from the start fewer."""
VALUES = frozenset({"q_mean", "q_max", "q_min"})


class JointRise(TickRule):
    """Medians of 24 losses and norms, each as a multiple of its highest level at the beginning."""

    name = "joint_rise"
    reads = ("grad_norm", "loss")
    beside = ("loss",)
    keep = LEVEL_OVER
    needs = LEVEL_OVER
    calm = "Loss or gradient norm back near where it began"
    OWN = ("first_loss", "first_norm", "seen")

    def __init__(self, context: Context, scope: str) -> None:
        self.first_loss = self.first_norm = 0.0
        """Highest medians of 8 among the first records of the run."""
        self.seen = 0
        """Records of which they speak."""
        super().__init__(context, scope)

    def restart(self) -> None:
        if self.context.mark == "fit":  # another fit may have another loss
            self.first_loss = self.first_norm = 0.0
            self.seen = 0
        super().restart()

    def judge(self) -> Verdict:
        norms, losses = self.last(LEVEL_OVER), self.last(LEVEL_OVER, "loss")
        game = self.context.competes(self.scope) or self.context.learns_policy()
        if self.seen < (FIRST_OVER_COMPETES if game else FIRST_OVER):
            self._learn(norms, losses)
            return QUIET
        if not (self.first_loss > 0 and self.first_norm > 0):
            return QUIET
        loss, norm = median(losses) / self.first_loss, middle(norms) / self.first_norm
        limits = self.limits
        least = limits["mean_competes" if game else "mean"]
        if self.context.learns_values():
            # errors grow with the values until those are learnt: where they are sent, `q_growth`
            # knows how far they may go
            least = math.inf if self.context.kinds & VALUES else limits["mean_values"]
        mean = math.sqrt(loss * norm) if min(loss, norm) >= limits["each"] else 0.0
        # what returns are grows with the rewards, and errors and gradients with it
        if mean < least or self.context.pays(self.step):
            return Verdict(KEEP) if self.alarm.level and 2 * mean >= least else QUIET
        return Verdict(2, int(self.steps(LEVEL_OVER)[0]), self._say(loss, norm))

    def _learn(self, norms: np.ndarray, losses: np.ndarray) -> None:
        """What the first records show; the ticks before the first judgement are among them."""
        parts = range(0, LEVEL_OVER, TICK) if not self.seen else (LEVEL_OVER - TICK,)
        for start in parts:
            tick = slice(start, start + TICK)
            self.first_norm = max(self.first_norm, middle(norms[tick]))
            level = median(np.abs(losses[tick]))
            self.first_loss = max(self.first_loss, level if math.isfinite(level) else 0.0)
            self.seen += TICK

    def _say(self, loss: float, norm: float) -> Said:
        times_loss, times_norm = f"{short(loss)}x", f"{short(norm)}x"
        return Said(
            title=f"Loss {times_loss}, gradient norm {times_norm} what they were at the start",
            message=(
                f"Medians of the last {LEVEL_OVER} records at step {self.step}: loss "
                f"{number(loss * self.first_loss)}, gradient norm "
                f"{number(norm * self.first_norm)}. The untrained model had at most "
                f"{number(self.first_loss)} and {number(self.first_norm)}."
            ),
            evidence=(
                Evidence(
                    label="Loss over the untrained model's",
                    value=times_loss,
                    limit=f"{short(self.limits['each'])}x",
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(
                    label="Over the untrained model's",
                    value=times_norm,
                    limit=f"{short(self.limits['each'])}x",
                    kind="grad_norm",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
