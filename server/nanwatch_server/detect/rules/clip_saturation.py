"""Rule 8: clipping that hides growth. Reads the pre-clip norm against the clip value."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP, Alarm, severities_of
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.robust import (
    TICK,
    Ring,
    fed,
    improving,
    log_or_nan,
    middle,
    theil_sen,
)
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

RECENT = 32


class ClipSaturation(Rule):
    """How far above the clip the norm is counts, not how often it is clipped."""

    name = "clip_saturation"
    reads = ("grad_norm", "clip_threshold")
    STATE = ("alarm", "logs", "losses", "steps", "since", "last_clip", "first")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm = Alarm()
        self.logs = Ring(1, 128)
        self.losses = Ring(1, 128)
        self.steps = Ring(1, 128, np.int64)
        self.since = -1
        """First step of the present stretch far above the clip; -1 outside of one."""
        self.last_clip = float("nan")
        self.first = float("nan")
        """Median logarithm of norm over clip in the first 32 records."""

    def update(self, block: Block) -> list[Finding]:
        norm, clip = block.scalars["grad_norm"], block.scalars["clip_threshold"]
        ratio = log_or_nan(norm) - log_or_nan(clip)
        # values that are not finite are rule 1's; they must not blind this one
        known = np.flatnonzero(np.isfinite(ratio))
        loss = block.scalars.get("loss", np.full(len(block), np.nan))
        ratio, loss, steps = ratio[None, known], loss[None, known], block.steps[None, known]
        levels: dict[int, int] = {}
        said: dict[int, Said] = {}
        onsets: dict[int, int] = {}
        pairs = [(self.logs, ratio), (self.losses, loss), (self.steps, steps)]
        for _, stop, tick in fed(pairs):
            at = int(known[stop - 1])
            self.last_clip = float(clip[at])
            if tick and self.logs.count >= RECENT:
                if math.isnan(self.first):
                    self.first = middle(self.logs.window(RECENT)[0])
                self._track()
            if tick and self.logs.count >= self.limits["window"]:
                level = levels[at] = self._judge(int(block.steps[at]))
                if level > 0 and self.alarm.may_speak(level, len(block)):
                    said[at], onsets[at] = self._say(), self.since
        if self.alarm.rests(len(block), levels.values()):
            return []  # nearly always
        severities = severities_of(norm, levels)
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            if event.fresh:
                self.alarm.onset = onsets[event.at]
            words = (
                cleared("Gradients back near the clip for 200 steps", "grad_norm", self.alarm)
                if event.what == "clear"
                else said[event.at]
            )
            found.append(finding(self.context, self.name, block, event, self.alarm.onset, words))
        return found

    def _window(self) -> tuple[F64, F64]:
        n = self.limits["window"]
        return self.logs.window(n)[0], self.losses.window(n)[0]

    def _track(self) -> None:
        """Remember when the norm went far above the clip and stayed there."""
        recent = self.logs.window(RECENT)[0]
        far = math.log(self.limits["far"])
        if middle(recent) < far:
            self.since = -1
        elif self.since < 0:
            steps = self.steps.window(RECENT)[0]
            self.since = int(steps[int(np.argmax(recent >= far))])

    def _judge(self, step: int) -> int:
        limits = self.limits
        logs, losses = self._window()
        ratio = math.exp(min(700.0, middle(logs)))
        if np.count_nonzero(logs > 0) < limits["share"] * len(logs):
            return 0
        if ratio < limits["far"]:
            return KEEP if ratio > limits["far"] / 2 else 1
        rising = theil_sen(logs) * len(logs) >= math.log(limits["rise"])
        best = self.context.progress_of(self.scope).at_best(step)
        learning = improving(losses) and (best or not rising)
        if ratio >= limits["critical"]:
            return 2 if learning else 3
        if ratio >= limits["warning"] and not learning and not self._by_scale(step):
            return 2
        if rising and not best and not self.context.learns_values():
            return 2
        return KEEP  # gradients of critics rise with their values in good health

    def _by_scale(self, step: int) -> bool:
        """True if the norm was about as far above the clip from the first records on, and the
        loss was learnt nevertheless: one that is summed, not averaged, hides no growth."""
        grown = middle(self._window()[0]) - self.first
        known = self.context.progress_of(self.scope)
        learnt = known.gained(step) >= self.limits["learnt"] and known.at_best(step)
        return learnt and grown < math.log(self.limits["grown"])

    def _say(self) -> Said:
        logs, _ = self._window()
        share = round(100 * float((logs > 0).mean()))
        ratio = math.exp(min(700.0, middle(logs)))
        clip = self.last_clip
        norm = ratio * clip
        since = f" It has been that far above since step {self.since}." if self.since >= 0 else ""
        far = ratio >= self.limits["far"]
        hides = (
            "Clipping hides growth: the norm after it reads "
            f"{number(clip)} whatever happens, and only the direction is left."
            if far
            else "The clip acts as a normaliser; common in runs that train well."
        )
        return Said(
            title=f"Gradients {short(ratio)}x above the clip on {share} % of {len(logs)} steps",
            message=(
                f"Pre-clip norm median {number(norm)} against a limit of {number(clip)} "
                f"({short(ratio)}x) over the last {len(logs)} attempts.{since} {hides}"
            ),
            evidence=(
                Evidence(
                    label="Norm before clipping, median",
                    value=number(norm),
                    limit=number(clip),
                    kind="grad_norm",
                    scope=self.scope,
                ),
                Evidence(
                    label="Norm over clip",
                    value=f"{short(ratio)}x",
                    limit=f"{short(self.limits['far'])}x",
                    kind="grad_norm",
                    scope=self.scope,
                ),
                Evidence(
                    label="Attempts clipped",
                    value=f"{share} %",
                    limit=f"{int(100 * self.limits['share'])} %",
                    kind="clip_threshold",
                    scope=self.scope,
                ),
            ),
            kind="grad_norm",
        )

    def restart(self) -> None:
        self.logs, self.losses = Ring(1, 128), Ring(1, 128)
        self.steps, self.since = Ring(1, 128, np.int64), -1


assert TICK <= RECENT
