"""Numbers that only look alive: a loss that is replaced by a constant, repairs that never end.

`nan_to_num`, a penalty of 1e6 or a filter in a trainer leave a finite loss where there is none.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import Alarm, unknown
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.robust import Ring, middle
from nanwatch_server.domain.facts import filters_nan, number
from nanwatch_server.domain.models import Evidence, Finding

USUAL = 64
NEWEST = 8
"""Losses that tell how it came to 0."""
FIRST = 16
"""Losses that set the level of the untrained model."""


class ConstantLoss(Rule):
    """The same loss, bit for bit, again and again, after one that varied."""

    name = "constant_loss"
    reads = ("loss",)
    STATE = ("alarm", "usual", "value", "streak", "begin", "first", "varied",
             "zeros", "longest", "anew")  # fmt: skip

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm = Alarm()
        self._begin()

    def restart(self) -> None:
        """Another fit has losses of its own. So has another task, but a loss that is exactly 0 from
        its first batch on is none, and is seen by what the last task had."""
        if self.context.mark == "task":
            self.anew = True
        else:
            self._begin()

    def _begin(self) -> None:
        self.anew = False
        """With the next loss other than 0 everything begins anew."""
        self.usual = Ring(1, USUAL)
        """Losses that differed from the one before."""
        self.value = math.nan
        self.streak = 0
        self.begin = -1
        self.first = math.nan
        """Median of the first ones."""
        self.varied = 0
        self.zeros = 0
        """Losses that came to 0 from another value."""
        self.longest = 0
        """Longest stretch of equal losses that ended."""

    def update(self, block: Block) -> list[Finding]:
        loss = block.scalars["loss"]
        repeats = loss == np.concatenate([[self.value], loss[:-1]])
        if not (repeats.any() or self.alarm.level) and np.isfinite(loss).all():
            self._vary(loss)
            self.alarm.seen += len(loss)
            self.longest, self.streak = max(self.longest, self.streak), 0
            self.value, self.begin = float(loss[-1]), int(block.steps[-1])
            return []
        severities = unknown(loss)
        words: dict[int, tuple[int, Said]] = {}
        for at in np.flatnonzero(np.isfinite(loss)).tolist():
            severities[at] = self._record(float(loss[at]), int(block.steps[at]))
            filtered = not severities[at] and self._filtered(block, at)
            severities[at] = 2 if filtered else severities[at]
            if severities[at] > 0 and self.alarm.may_speak(int(severities[at]), len(block)):
                words[at] = self.begin, self._say(float(loss[at]), filtered)
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            if event.what == "clear":
                said = cleared("Loss varies again", "loss", self.alarm)
            else:
                begin, said = words[event.at]
                if event.fresh:
                    self.alarm.onset = begin
            found.append(finding(self.context, self.name, block, event, self.alarm.onset, said))
        return found

    def _vary(self, losses: F64) -> None:
        """Losses that are no repetition, into the window of usual ones."""
        if self.anew and (known := np.flatnonzero(losses)).size:
            longest = max(self.longest, self.streak)
            self._begin()
            self.longest = longest
            losses = losses[known[0] :]
        self.varied += len(losses)
        self.zeros += int(np.count_nonzero(losses == 0))
        if math.isnan(self.first):
            missing = FIRST - self.usual.count
            self.usual.push(losses[None, :missing])
            losses = losses[missing:]
            if self.usual.count == FIRST:
                self.first = middle(self.usual.window(FIRST)[0])
        self.usual.push(losses[None, :])

    def _record(self, loss: float, step: int) -> int:
        if loss != self.value or (self.anew and loss):
            self._vary(np.array([loss]))
            self.longest = max(self.longest, self.streak)
            self.value, self.streak, self.begin = loss, 0, step
            return 0
        self.streak += 1
        if self.streak < self.limits["records"]:
            return 0
        if self.varied < self.limits["varied"]:
            return 0  # never varied: a constant that somebody logs
        usual = middle(self.usual.window(USUAL)[0])
        if self.anew and self.streak < self.limits["longest"] * self.longest:
            return 0  # tasks may begin with some, until there is enough to learn from
        # a hinge loss that is solved comes to rest at 0 from nearby, or is 0 for a batch now and
        # then before; a replaced one jumps there
        jumped = min(self._away(loss, usual), self._away(loss, self._last_other(loss)))
        jumped = jumped >= self.limits["jump"]
        learnt = abs(usual) <= self.limits["solved"] * abs(self.first)
        before = self.usual.window(NEWEST)[0]
        before = np.abs(before[before != 0])
        came_near = before.size and before.min() <= self.limits["came_near"] * abs(usual)
        solved = loss == 0 and (learnt or came_near or self.zeros > self.limits["zeros"])
        return 2 if (jumped and not solved) or self._stopped(loss, usual) else 0

    @staticmethod
    def _away(loss: float, other: float) -> float:
        """How far two losses are from each other, as a share of the larger."""
        return abs(other - loss) / max(abs(other), abs(loss), 1e-300)

    def _last_other(self, loss: float) -> float:
        """The newest loss that was another: one that comes to rest was there almost before."""
        window = self.usual.window(USUAL)[0]
        others = window[np.isfinite(window) & (window != loss)]
        return float(others[-1]) if others.size else loss

    def _filtered(self, block: Block, at: int) -> bool:
        """True for a loss of 0 that a trainer writes who leaves NaN out of its sums: from the
        first record on, or from one to the next."""
        limits = self.limits
        if self.value or self.streak < limits["records"] or self.varied > limits["varied"]:
            return False
        context = self.context
        if context.learns_policy() or not filters_nan(context.facts):
            return False  # the loss of a policy may be 0: its gradient is not
        norms = block.scalars.get("grad_norm")
        if norms is not None and norms[at] > 0:
            return False  # there is something left to learn
        before = np.abs(self.usual.window(NEWEST)[0])
        before = before[before != 0]
        leapt = before.size and before[-1] >= max(limits["filtered"], before[0] / 2)
        return not before.size or bool(leapt)

    def _stopped(self, loss: float, usual: float) -> bool:
        """True for a loss that varied by noise and stays where it was: not one that converges to
        rest, nor one that is only computed now and then."""
        limits = self.limits
        if loss == 0 or self.streak < max(limits["near"], limits["longest"] * self.longest):
            return False
        window = self.usual.window(USUAL)[0]
        if len(np.unique(window)) < len(window) / 2:
            return False  # written in few digits
        moves = np.diff(window)
        noisy = np.count_nonzero(moves[1:] * moves[:-1] < 0) >= limits["turns"] * len(moves)
        return noisy and middle(np.abs(moves)) >= limits["varied_by"] * abs(usual) > 0

    def _say(self, loss: float, filtered: bool) -> Said:
        count, begin = self.streak, self.begin
        usual = middle(self.usual.window(USUAL)[0])
        return Said(
            title=f"Loss is exactly {number(loss)} in {count + 1} records in a row",
            message=(
                f"Loss is exactly {number(loss)} since step {begin}, {count + 1} records in a row; "
                f"before that it varied around {number(usual)}. A number that never changes is a "
                "stand-in (nan_to_num, a penalty, a filter of the trainer), not a loss."
            )
            if not filtered
            else (
                f"Loss is exactly 0 since step {begin}, {count + 1} records in a row. That is what "
                "the Trainer of transformers logs where every loss is NaN "
                "(logging_nan_inf_filter), and no training gets there at once."
            ),
            evidence=(
                Evidence(label="Same loss in a row", value=str(count + 1),
                         limit=str(self.limits["records"]), kind="loss", scope=self.scope),
            ),
            kind="loss",
        )  # fmt: skip
