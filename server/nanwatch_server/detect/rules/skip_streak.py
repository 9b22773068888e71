"""Rule 2: updates skipped in a row, so that the weights stand still while the loss still prints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import WARNING, Alarm, Event
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.robust import TICK
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence, Finding

SHARE_OVER = 50
UNUSED_OVER = 200
"""Attempts over which updates left out for no visible reason are looked at."""


class SkipStreak(Rule):
    """Counts skips that something bad explains; gradient accumulation skips in good health."""

    name = "skip_streak"
    reads = ("update_applied",)
    STATE = ("alarm", "attempts", "streak", "begin", "idle", "idle_begin", "idle_usual", "recent",
             "unused", "unused_begin")  # fmt: skip

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm = Alarm()
        self.attempts = 0
        self.streak = 0
        self.begin = -1
        """Step of the first skip of the present streak."""
        self.idle = 0
        """Attempts in a row not applied for no visible reason."""
        self.idle_begin = -1
        self.idle_usual = 0
        """Longest such stretch that ended by itself."""
        self.recent: NDArray[np.int8] = np.zeros(SHARE_OVER, np.int8)
        self.unused: NDArray[np.int8] = np.zeros(UNUSED_OVER, np.int8)
        """1 where an attempt was not applied for no visible reason."""
        self.unused_begin = -1
        """First step at which nearly none was applied, of the present stretch."""

    def update(self, block: Block) -> list[Finding]:
        applied = block.scalars["update_applied"]
        bad = self._bad(block)
        if applied.all() and not (
            self.alarm.level or self.streak or self.idle or self.recent.any() or self.unused.any()
        ):
            self.attempts += len(block)
            self.alarm.seen += len(block)
            return []
        severities = np.zeros(len(block), np.int8)
        streaks = np.zeros(len(block), np.int64)
        begins = np.zeros(len(block), np.int64)
        shares = np.zeros(len(block), np.int64)
        for at in range(len(block)):
            severities[at] = self._record(bool(applied[at]), bool(bad[at]), int(block.steps[at]))
            streaks[at], begins[at] = max(self.streak, self.idle), self._began()
            shares[at] = int(self.recent.sum()) * 100 // SHARE_OVER
            if severities[at] == 0 and self._picked(int(block.steps[at])):
                severities[at], begins[at] = WARNING, self.unused_begin
                streaks[at], shares[at] = 0, int(self.unused.sum()) * 100 // UNUSED_OVER
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            if event.fresh:
                self.alarm.onset = int(begins[event.at])
            at = event.at
            said = self._say(block, event, int(streaks[at]), int(begins[at]), int(shares[at]))
            found.append(finding(self.context, self.name, block, event, self.alarm.onset, said))
        return found

    def _began(self) -> int:
        return self.begin if self.streak >= self.idle else self.idle_begin

    def _bad(self, block: Block) -> NDArray[np.bool_]:
        """Skips with a reason one can see: scaler's or guard's, or a value that is not finite."""
        skipped = block.scalars["update_applied"] == 0
        if not skipped.any():
            return skipped
        norm, loss = block.scalars.get("grad_norm"), block.scalars.get("loss")
        reason = block.scalars.get("skip_reason")
        bad = np.zeros(len(block), bool)
        scaler = (reason == 1) if reason is not None else bad
        guard = (reason == 3) if reason is not None else bad
        bad = bad | scaler | guard
        if norm is not None:
            bad |= ~np.isfinite(norm)
        if loss is not None:
            bad |= ~np.isfinite(loss)
        if norm is None and reason is None:
            bad[:] = True
        early = np.arange(self.attempts, self.attempts + len(block)) < self.limits["exempt"]
        return skipped & bad & ~(early & scaler)

    def _record(self, applied: bool, bad: bool, step: int) -> int:
        self.recent[self.attempts % SHARE_OVER] = bad
        self.unused[self.attempts % UNUSED_OVER] = not applied and not bad
        self.attempts += 1
        if applied:
            self.idle_usual = max(self.idle_usual, self.idle)
            self.streak = self.idle = 0
        elif bad:
            self.begin = step if not self.streak else self.begin
            self.streak += 1
        else:
            self.idle_begin = step if not self.idle else self.idle_begin
            self.idle += 1
        limits = self.limits
        share = self.attempts >= SHARE_OVER and int(self.recent.sum()) >= (
            limits["share"] * SHARE_OVER
        )
        if self.streak >= limits["critical"] or (share and bad):
            return 3
        idle = max(limits["idle"], 4 * self.idle_usual)
        if self.streak >= limits["warning"] or self.idle >= idle:
            return 2
        return 0

    def _picked(self, step: int) -> bool:
        """True if nearly every update is left out, and those applied come irregularly: gradients
        are accumulated over the same number of batches, a condition picks and chooses."""
        if int(self.unused.sum()) < self.limits["picked"] * UNUSED_OVER:
            self.unused_begin = -1
            return False
        if self.unused_begin < 0:
            self.unused_begin = step
        if self.attempts % TICK:
            return False
        order = np.roll(self.unused, -(self.attempts % UNUSED_OVER))
        gaps = np.diff(np.flatnonzero(order == 0))
        return len(gaps) >= 3 and int(np.unique(gaps, return_counts=True)[1].max()) < len(gaps) / 2

    def _say(self, block: Block, event: Event, streak: int, begin: int, share: int) -> Said:
        if event.what == "clear":
            return cleared("Updates applied again for 200 attempts", "update_applied", self.alarm)
        norm = block.scalars.get("grad_norm")
        value = float(norm[event.at]) if norm is not None else float("nan")
        finite = norm is None or bool(np.isfinite(value))
        why = "" if finite else ", non-finite gradients"
        title = f"{streak} updates skipped in a row{why}"
        if streak < self.limits["warning"]:
            over = UNUSED_OVER if streak == 0 else SHARE_OVER
            title = f"{share} % of the last {over} updates skipped{why}"
        loss = block.scalars.get("loss")
        prints = ""
        if loss is not None and np.isfinite(loss[event.at]):
            prints = f"Loss still prints {number(float(loss[event.at]))} but "
        weights = f"the weights have not changed since step {begin}."
        if streak == 0:
            weights = f"the weights hardly change, since step {begin}."
        weights = prints + weights if prints else weights[0].upper() + weights[1:]
        picked = streak == 0  # the share is what tells
        evidence = [
            Evidence(
                label=f"Skipped of {UNUSED_OVER}" if picked else "Skipped in a row",
                value=f"{share} %" if picked else str(streak),
                limit=f"{self.limits['picked']:.0%}" if picked else str(self.limits["warning"]),
                kind="update_applied",
                scope=self.scope,
            )
        ]
        if norm is not None:
            evidence.append(
                Evidence(
                    label="Gradient norm",
                    value=number(value),
                    limit="finite",
                    kind="grad_norm",
                    scope=self.scope,
                )
            )
        return Said(title, f"{title}. {weights}", tuple(evidence), "update_applied")
