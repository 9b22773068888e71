"""Rule 6 on any other series: growth that accelerates, as a base for rules that name the series.

A rule gives its series, a floor below which growth harms nobody, and its words.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import KEEP, severities_of
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.growth import GrowthBank, Stretch
from nanwatch_server.detect.robust import TICK, hold_last, log_or_nan, middles
from nanwatch_server.detect.tick import QUIET, SpeakingRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

START_TICKS = 8


class GrowthRule(SpeakingRule):
    """Growth of the total, or of the layers, of one kind."""

    kind: ClassVar[str] = ""
    per_layer: ClassVar[bool] = False
    what: ClassVar[str] = ""
    """The series in words: `Largest logit`."""
    STATE = ("alarm", "names", "bank", "last", "start", "top", "over")

    def __init_subclass__(cls) -> None:
        cls.reads = (cls.kind,)

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.restart()

    def restart(self) -> None:
        self.names: tuple[str, ...] = () if self.per_layer else ("",)
        rows = len(self.names)
        self.bank = GrowthBank(rows, self.limits)
        self.last: F64 = np.full(rows, np.nan)
        self.start: F64 = np.full(rows, np.nan)
        """Highest level per row within the first 64 records: the untrained model."""
        self.top: F64 = np.full(rows, -np.inf)
        self.over = 0
        """Records in a row that stood above the absolute limit, up to now."""
        absolute = (self.limits.get(name, math.inf) for name in ("absolute", "absolute_early"))
        least = min(absolute)
        self.least = math.log(least) if least > 0 else -math.inf
        """Logarithm of the least absolute limit; what is no limit is for `_beyond` to say."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        logs, main = self._logs(block)
        known = np.flatnonzero(np.isfinite(main))
        verdicts: dict[int, Verdict] = {}
        filled = hold_last(logs[:, known], self.last)
        steps = block.steps[known]
        for start, stop, stretch in self.bank.parts(filled, self._calm):
            part, when = filled[:, start:stop], steps[start:stop]
            if stretch is not None:
                self.bank.take(part, when, stretch)
            elif self.bank.push(part, when):
                verdicts[int(known[stop - 1])] = self._judge(when)
        levels = {at: verdict.severity for at, verdict in verdicts.items()}
        beyond = self._may_be_beyond(filled)
        if not beyond and self.alarm.rests(len(block), levels.values()):
            return []  # nearly always
        severities = severities_of(main, levels)
        if beyond:
            self._beyond(filled, steps, known, severities, verdicts)
        return self.speak(block, severities, verdicts)

    def _may_be_beyond(self, logs: F64) -> bool:
        """False if no record stands above the least absolute limit; then the streak is over."""
        top = np.fmax.reduce(logs, axis=None, initial=-math.inf)
        if top >= self.least:
            return True
        self.over = self.over if not logs.shape[1] else 0
        return False

    def _beyond(
        self,
        logs: F64,
        steps: I64,
        known: I64,
        severities: NDArray[np.int8],
        verdicts: dict[int, Verdict],
    ) -> None:
        """Two records in a row above the absolute limit, record by record: what is measured
        seldom would be waited for too long by ticks."""
        absolute = self.limits.get("absolute", math.inf)
        early = min(absolute, self.limits.get("absolute_early", math.inf))
        limits = np.where(steps <= self.limits.get("early", -1), early, absolute)
        above = np.fmax.reduce(logs, axis=0, initial=-np.inf) >= np.log(limits)
        if not above.any():
            self.over = self.over if not len(above) else 0
            return
        for column in range(len(above)):
            self.over = self.over + 1 if above[column] else 0
            at = int(known[column])
            if self.over < 2 or severities[at] >= 2:
                continue
            if self._harmless(float(np.nanmax(logs[:, column])), int(steps[column])):
                self.over = 1
                continue
            severities[at] = KEEP
            if self.over == 2:
                verdicts[at] = Verdict(
                    2,
                    -1,
                    self._say_level(logs[:, column], int(steps[column]), float(limits[column])),
                )
                severities[at] = 2

    def _logs(self, block: Block) -> tuple[F64, F64]:
        """Logarithms f64[rows, n], and one of them that tells which attempts were measured."""
        if not self.per_layer:
            logs = log_or_nan(np.abs(block.scalars[self.kind]))[None, :]
            return logs, logs[0]
        names, values = block.layers[self.kind]
        if names != self.names:
            self._align(names)
        placed = np.full((len(self.names), len(block)), np.nan)
        row_of = {name: row for row, name in enumerate(self.names)}
        placed[[row_of[name] for name in names]] = log_or_nan(np.abs(values))
        return placed, np.nanmax(placed, axis=0, initial=-np.inf, where=np.isfinite(placed))

    def _align(self, names: tuple[str, ...]) -> None:
        fresh = [name for name in names if name not in self.names]
        if not fresh:
            return
        if self.names:
            self.bank.select([*range(len(self.names)), *[-1] * len(fresh)])
        else:
            self.bank = GrowthBank(len(fresh), self.limits)
        more = len(fresh)
        self.last = np.concatenate([self.last, np.full(more, np.nan)])
        self.start = np.concatenate([self.start, np.full(more, np.nan)])
        self.top = np.concatenate([self.top, np.full(more, -np.inf)])
        self.names = (*self.names, *fresh)

    def _calm(self, logs: F64, stretch: Stretch) -> bool:
        """True if `_judge` would say nothing at any tick of the stretch; then what it remembers is
        remembered."""
        if self.bank.count < START_TICKS * TICK:
            return False
        levels = middles(logs.reshape(-1, TICK)).reshape(len(logs), -1)
        if not (levels < math.log(self.limits["critical"])).all():
            return False
        self.top = np.fmax(self.top, levels.max(axis=1))
        return True

    def _judge(self, steps: I64) -> Verdict:
        limits = self.limits
        level = self.bank.level()
        if self.bank.count <= START_TICKS * TICK:
            self.start = np.fmax(self.start, level)
        self.top = np.fmax(self.top, level)
        growing = np.isfinite(self.bank.doubling)
        high = level >= math.log(limits["critical"])
        if not np.count_nonzero(growing) and not np.count_nonzero(high):
            return QUIET  # nearly always
        beyond = level - self.start >= math.log(limits["times"])
        rows = np.flatnonzero(growing & beyond & (level >= math.log(limits["floor"])))
        if rows.size:
            row = int(rows[np.argmax(level[rows])])
            worst = 3 if level[row] >= math.log(limits["critical"]) else 2
            weak = self.bank.reach[row] < math.log(limits["grown"])
            severity = 1 if weak or self.pardoned(int(steps[-1])) else worst
            return Verdict(severity, self.bank.onset(row), self._say(row, int(steps[-1])))
        if (high & beyond).any():
            return Verdict(KEEP)  # whether there is an alarm to hold up, it knows by itself
        return Verdict(0)

    def pardoned(self, step: int) -> bool:
        """True if the training shows that the growth does no harm."""
        return False

    def _harmless(self, level: float, step: int) -> bool:
        """True if the training shows that a level beyond the limit is none of its kind."""
        return False

    def sign(self) -> str:
        """`-` where the series is below 0."""
        return ""

    def _say_level(self, logs: F64, step: int, most: float) -> Said:
        row = int(np.nanargmax(logs))
        level = number(math.exp(min(700.0, float(logs[row]))))
        limit, layer = number(most), self.names[row]
        where = f" of {layer[-40:]}" if layer else ""
        return Said(
            title=f"{self.what}{where} is {level}",
            message=f"{self.what}{where} is {level} at step {step}, beyond {limit}, without growth "
            "before: the weights began too large, or the inputs are.",
            evidence=(
                Evidence(label=self.what, value=level, limit=limit, kind=self.kind,
                         scope=self.scope, layer=layer),
            ),
            kind=self.kind,
            layer=layer,
        )  # fmt: skip

    def _say(self, row: int, step: int) -> Said:
        level = math.exp(min(700.0, float(self.bank.level()[row])))
        doubling = float(self.bank.doubling[row]) * self.bank.steps_per_record()
        reach = math.exp(min(700.0, float(self.bank.reach[row])))
        layer = self.names[row]
        where = f" of {layer[-40:]}" if layer else ""
        begin = math.exp(min(700.0, float(self.start[row])))
        return Said(
            title=f"{self.what}{where} doubles every {short(doubling)} steps: "
            f"{self.sign()}{short(level)}",
            message=(
                f"{self.what}{where} is {self.sign()}{number(level)} at step {step}, began at "
                f"{number(begin)}, "
                f"and grew {short(reach)}x, ever faster, since step {self.bank.onset(row)}."
            ),
            evidence=(
                Evidence(
                    label=self.what,
                    value=self.sign() + number(level),
                    limit=number(self.limits["critical"]),
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
                Evidence(
                    label="Doubling time",
                    value=f"{short(doubling)} steps",
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
            ),
            kind=self.kind,
            layer=layer,
            doubling_steps=doubling,
        )
