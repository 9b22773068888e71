"""Rules 3 and 6 on gradient norms, in total and per layer: jumps and accelerating growth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import KEEP, Alarm, unknown
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.growth import GrowthBank, Stretch
from nanwatch_server.detect.robust import (
    Ring,
    hold_last,
    improving,
    log_or_nan,
    median,
)
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

FP32_MAX = 3.4e38
PAST = 64
"""Records looked back over to word a jump."""
TOTAL = "*"
UNTRAINED = 64
"""Records that show an untrained model."""


class _Inputs(NamedTuple):
    """A block's norms as logarithms: row 0 the total, then the layers."""

    logs: F64
    clips: F64 | None
    """Clip threshold, per record."""
    loss: F64
    steps: I64

    def part(self, start: int, stop: int) -> _Inputs:
        """Some of the records."""
        cut = slice(start, stop)
        clips = None if self.clips is None else self.clips[cut]
        return _Inputs(self.logs[:, cut], clips, self.loss[cut], self.steps[cut])


class GradExplosion(Rule):
    """Jumps are seen at the record, growth at the tick; both name the layers that lead."""

    name = "grad_explosion"
    reads = ("grad_norm",)
    STATE = ("names", "alarm", "bank", "last", "reference", "start", "hits", "losses", "clip",
             "base", "loss_usual", "untrained")  # fmt: skip

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.names: tuple[str, ...] = (TOTAL,)
        self.alarm = Alarm()
        self.bank = GrowthBank(1, self.limits)
        self.last: F64 = np.full(1, np.nan)
        self.reference: F64 = np.full(1, np.nan)
        """Median logarithm of the last 128 records per row, as of the last tick."""
        self.start: F64 = np.full(1, np.nan)
        """First logarithm per row: stands in while there is no reference."""
        self.bars: tuple[NDArray[np.bool_], F64, F64] | None = None
        """`_bars`; None: to be worked out. Not kept."""
        self.untrained: F64 = np.full(1, -np.inf)
        """Highest logarithm per row within the first 64 records."""
        self.hits: NDArray[np.int8] = np.zeros((1, 4), np.int8)
        """Which of the last 4 records stood far above the reference."""
        self.losses = Ring(1, 256)
        self.loss_usual = float("nan")
        """Median of the last 64 losses as of the last tick; the first one until then."""
        self.clip = float("nan")
        self.base = float("nan")
        """Logarithm of the level before the trouble, frozen when the alarm went up."""

    def update(self, block: Block) -> list[Finding]:
        self._align(block)
        total = block.scalars["grad_norm"]
        # values that are not finite are rule 1's; they must not blind this one
        known = np.flatnonzero(np.isfinite(total) & (total > 0))
        inputs = self._inputs(block, known)
        found: list[Finding] = []
        done = 0
        for start, stop, stretch in self.bank.parts(inputs.logs, self._calm):
            end = int(known[stop - 1]) + 1
            part = inputs.part(start, stop)
            if stretch is None:
                found += self._cell(block, part, known[start:stop] - done, done, end)
            else:
                self._pass(part, stretch, end - done)
            done = end
        if done < len(block):
            found += self._sweep(block, unknown(total[done:]), done, {})
        return found

    def _align(self, block: Block) -> None:
        """Follow the set of layers: known ones keep their windows, new ones start empty."""
        names = (
            (TOTAL, *block.layers["grad_norm_layer"][0])
            if ("grad_norm_layer" in block.layers)
            else self.names
        )
        if names == self.names:
            return
        old = {name: row for row, name in enumerate(self.names)}
        rows = [old.get(name, -1) for name in names]
        keep = np.array(rows)
        self.bank.select(rows)
        self.last = np.where(keep >= 0, self.last[keep], np.nan)
        self.reference = np.where(keep >= 0, self.reference[keep], np.nan)
        self.start = np.where(keep >= 0, self.start[keep], np.nan)
        self.untrained = np.where(keep >= 0, self.untrained[keep], -np.inf)
        self.hits = np.where(keep[:, None] >= 0, self.hits[keep], 0).astype(np.int8)
        self.names, self.bars = names, None

    def _inputs(self, block: Block, known: I64) -> _Inputs:
        values = np.full((len(self.names), len(known)), np.nan, order="F")  # as rings are
        values[0] = block.scalars["grad_norm"][known]
        if "grad_norm_layer" in block.layers:
            values[1:] = block.layers["grad_norm_layer"][1][:, known]
        logs = hold_last(log_or_nan(values), self.last)
        clip = block.scalars.get("clip_threshold")
        loss = block.scalars.get("loss")
        clips = clip[known] if clip is not None else None
        losses = loss[known] if loss is not None else np.full(len(known), np.nan)
        return _Inputs(logs, clips, losses, block.steps[known])

    def _floor(self, clips: F64 | None, records: int) -> F64:
        """Logarithm below which growth harms nobody, per record."""
        lowest = self.limits["floor_values" if self.context.learns_values() else "floor"]
        floor = np.full(records, math.log(lowest))
        if clips is None:
            return floor
        far = log_or_nan(clips) + math.log(self.limits["floor_clips"])
        return np.where(np.isfinite(far), far, floor)

    def _calm(self, logs: F64, stretch: Stretch) -> bool:
        """True if no record of the stretch can stand out, however low the median may have been."""
        if self.alarm.level or self.bank.count < UNTRAINED:
            return False
        if np.count_nonzero(self.hits) or np.count_nonzero(np.isnan(self.start)):
            return False
        limits = self.limits
        bar = np.minimum(stretch.low + math.log(limits["jump"]), math.log(limits["absolute"]))
        return bool((np.maximum.reduce(logs, axis=1) < bar).all())

    def _pass(self, inputs: _Inputs, stretch: Stretch, records: int) -> None:
        """What `_cell` remembers, of several cells of which it would say nothing."""
        self.losses.push(inputs.loss[None, :])
        self._know_clip(inputs.clips, -1)
        self.bank.take(inputs.logs, inputs.steps, stretch)
        self._ticked()
        self.alarm.rests(records, ())

    def _ticked(self) -> None:
        self.reference = self.bank.reference()
        self.bars = None
        self.loss_usual = median(self.losses.window(64)[0])

    def _cell(self, block: Block, inputs: _Inputs, part: I64, done: int, end: int) -> list[Finding]:
        """Known records within attempts `done` to `end` of the block, at the positions `part`."""
        logs, clips, losses, steps = inputs
        self.losses.push(losses[None, :])
        if math.isnan(self.loss_usual) and (first := losses[np.isfinite(losses)]).size:
            self.loss_usual = float(first[0])
        jumps, held = self._jumps(logs, clips, losses)
        words: dict[int, tuple[Said, int, float]] = {}
        if np.count_nonzero(jumps):
            # worded from what was known at that record, whatever came with it in the batch
            past = self.bank.levels[0]
            history = np.concatenate([past.values.window(PAST), logs], axis=1)
            history_steps = np.concatenate([past.steps.window(PAST)[0], steps])
            for column in self._speaking(jumps, end - done):
                upto = history.shape[1] - logs.shape[1] + column + 1
                # the total is the loudest witness; a layer is named only where it alone rises
                row = int(np.argmax(held[:, column]))
                self._know_clip(clips, column)
                words[int(part[column]) + done] = self._say_jump(
                    row, history[:, :upto], history_steps[:upto]
                )
        self._know_clip(clips, -1)
        found: list[Finding] = []
        severities = unknown(block.scalars["grad_norm"][done:end])
        severities[part] = jumps
        last = int(jumps[-1])
        spoken = bool(self.alarm.level or np.count_nonzero(jumps))
        if spoken:  # before it is asked whether an alarm is up
            found += self._sweep(block, severities[:-1], done, words)
        if self.bank.push(logs, steps):
            level, row = self._growth(clips, int(steps[-1]))
            if level > last:
                last = level
                words[end - 1] = self._say_growth(row, int(steps[-1]))
            elif not last and self.alarm.level and self._still_high():
                last = KEEP
            self._ticked()
        if not spoken and self.alarm.rests(end - done, (last,)):
            return []  # nearly always
        severities[-1] = last
        if spoken:
            return found + self._sweep(block, severities[-1:], end - 1, words)
        return self._sweep(block, severities, done, words)

    def _know_clip(self, clips: F64 | None, column: int) -> None:
        """The clip at a record, for words."""
        if clips is not None:
            self.clip = float(clips[column])

    def _speaking(self, jumps: NDArray[np.int8], records: int) -> list[int]:
        """Columns at which the alarm could speak within the `records` attempts of the cell."""
        found = np.flatnonzero(jumps > 0).tolist()
        return [at for at in found if self.alarm.may_speak(int(jumps[at]), records)]

    def _sweep(
        self,
        block: Block,
        severities: NDArray[np.int8],
        done: int,
        words: dict[int, tuple[Said, int, float]],
    ) -> list[Finding]:
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            at = event._replace(at=event.at + done)
            if event.what == "clear":
                said = cleared("Gradient norm calm again for 200 steps", "grad_norm", self.alarm)
            else:
                said, onset, base = words[at.at]
                if event.fresh:
                    self.alarm.onset, self.base = onset, base
            found.append(finding(self.context, self.name, block, at, self.alarm.onset, said))
        return found

    def _risen(self, losses: F64, times: float) -> NDArray[np.bool_]:
        """Records whose loss confirms a jump: so many times its usual, or nobody knows."""
        if not self.loss_usual > 0:
            return np.ones(len(losses), bool)
        return ~(losses < times * self.loss_usual)

    def _jumps(
        self, logs: F64, clips: F64 | None, losses: F64
    ) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Severity per record of "3 of the last 5 stand 1000 times above the window's median",
        100 times where the loss confirms it, or one a million times.

        Also which rows show it. Before there is a median the first record stands in, with
        limits a hundred and a thousand times higher: untrained models move a lot, and whose loss
        falls all the while are well.
        """
        n = logs.shape[1]
        limits = self.limits
        early, base, bar = self._bars(logs)
        if self.bank.count >= UNTRAINED and not np.count_nonzero(self.hits):
            loud = np.fmax.reduce(logs, axis=1) >= bar
            if not np.count_nonzero(loud):
                return np.zeros(n, np.int8), np.zeros(logs.shape, bool)  # nearly always
        absolute = math.log(limits["absolute"])
        floor = self._floor(clips, n)
        risen = self._risen(losses, limits["loss_rose"])
        # far above its usual size the loss itself tells that small norms do harm
        shot = (losses >= limits["loss_shot"] * self.loss_usual) & (self.loss_usual > 0)
        floor = np.where(shot, -np.inf, floor)
        above = logs - base[:, None]
        floor = floor[None, :] + np.where(early, math.log(limits["early_floor"]), 0.0)[:, None]
        jump = np.where(risen, math.log(limits["jump"]), math.log(limits["jump_alone"]))
        far = (above >= jump) & (logs >= floor) & self._weighty(logs)
        # before there is a median only the total tells anything, and only beside the loss
        far[0] &= ~early[0] | risen
        far[1:, :] &= ~early[1:, None]
        # a converged model jumps back to what an untrained one shows when its task changes
        if self.bank.count < UNTRAINED:
            known = logs[:, : UNTRAINED - self.bank.count]
            self.untrained = np.fmax(self.untrained, known.max(axis=1, initial=-np.inf))
        else:
            far &= logs >= (self.untrained + math.log(limits["over_first"]))[:, None]
        far |= logs >= absolute
        if not far.any() and not self.hits.any():
            return np.zeros(n, np.int8), far
        joined = np.concatenate([self.hits, far.astype(np.int8)], axis=1)
        self.hits = joined[:, -4:].copy()
        sums = np.cumsum(np.pad(joined, ((0, 0), (1, 0))), axis=1)
        held = far & (sums[:, 5:] - sums[:, :-5] >= 3)
        # a model that goes from 25 to 2e7 in two steps leaves no time for three of five
        held |= far & (above >= math.log(limits["single"]))
        if not held.any():
            return np.zeros(n, np.int8), held
        huge = (above >= math.log(limits["jump_critical"])) | (logs >= absolute)
        huge |= (logs >= math.log(limits["huge"])) & (above >= math.log(limits["jump"]))
        severities = np.where(held.any(axis=0), 2, 0).astype(np.int8)
        severities[(held & huge).any(axis=0)] = 3
        return severities, held

    def _bars(self, logs: F64) -> tuple[NDArray[np.bool_], F64, F64]:
        """Per row: whether the first record stands in for the median, the logarithm of what a jump
        is measured against, and that below which there is none. Worked out once a tick."""
        if self.bars is not None:
            return self.bars
        limits = self.limits
        missing = np.isnan(self.start)
        if np.count_nonzero(missing):
            first = np.argmax(np.isfinite(logs), axis=1)  # wherever in the cell a row begins
            np.copyto(self.start, logs[np.arange(len(logs)), first], where=missing)
            missing = np.isnan(self.start)
        early, base = np.isnan(self.reference), self.reference
        if np.count_nonzero(early):
            base = np.where(early, self.start + math.log(limits["early"]), base)
        bar = np.fmin(base + math.log(limits["jump"]), math.log(limits["absolute"]))
        if np.count_nonzero(missing):
            # a row without a start has had no norm above 0: its first one is looked at
            return early, base, np.where(missing, -np.inf, bar)
        self.bars = early, base, bar
        return self.bars

    def _weighty(self, logs: F64) -> NDArray[np.bool_]:
        """Rows that make up a part of the total: of the others nothing comes yet."""
        return ~(logs < logs[0] + math.log(self.limits["part"]))

    def _growth(self, clips: F64 | None, step: int) -> tuple[int, int]:
        """Severity of accelerating growth at this tick, and the row that shows it."""
        growing = np.isfinite(self.bank.doubling)
        if not np.count_nonzero(growing):
            return 0, 0
        floor = float(self._floor(None if clips is None else clips[-1:], 1)[0])
        level = self.bank.level()
        rows = np.flatnonzero(growing & (level >= floor) & self._weighty(level[:, None])[:, 0])
        if not rows.size:
            return 0, 0
        row = int(rows[0])
        limits = self.limits
        reach = float(self.bank.reach[rows].max())
        window = int(min(256, max(32, self.bank.window[row])))
        strong = reach >= math.log(limits["strong"])
        weak = reach < math.log(limits["grown"])
        # norms that the untrained model had already say nothing by their size
        large = strong and level[row] >= max(floor, self.untrained[0]) + math.log(limits["large"])
        if weak or (not large and self._well(window, step)):
            return 1, row
        doubling = float(self.bank.doubling[rows].min())
        left = (math.log(FP32_MAX) - float(level[row])) / math.log(2) * doubling
        soon = min(left, doubling * math.log2(1e4)) < limits["soon"]
        huge = float(level[row]) >= math.log(limits["huge"])
        return (3 if strong and (soon or huge) else 2), row

    def _well(self, window: int, step: int) -> bool:
        """The loss falls while the norms grow, or stands near its best."""
        if improving(self.losses.window(window)[0], 0.1):
            return True
        return self.context.progress_of(self.scope).at_best(step)

    def _still_high(self) -> bool:
        """Norms that stay far above the level before the trouble keep the alarm up."""
        recent = self.alarm.seen - self.alarm.last_hit < self.limits["keep"]
        return recent and float(self.bank.level()[0]) >= self.base + math.log(
            self.limits["keep_factor"]
        )

    def _say_jump(self, row: int, logs: F64, steps: I64) -> tuple[Said, int, float]:
        early = bool(np.isnan(self.reference[row]))
        base = float((self.start if early else self.reference)[row])
        now = float(logs[row, -1])
        far = logs[row] >= base + math.log(3.0)
        onset = _stretch_start(far, steps)
        above = logs[:, -1] - self.reference
        order = np.argsort(-np.where(np.isfinite(above[1:]), logs[1:, -1], -np.inf)) + 1
        layers = [int(r) for r in order if above[r] >= math.log(10.0)][:3]
        value = number(_exp(now))
        what = self._subject(row)
        jumped = math.isfinite(base) and now - base >= math.log(self.limits["jump"])
        if jumped:
            title = f"{what} jumped {short(_exp(now - base))}x to {short(_exp(now))}"
            before = "at the first record" if early else "as median of the 128 records before"
            against = f"against {number(_exp(base))} {before}"
        else:
            title = f"{what} at {short(_exp(now))}, near the end of fp32"
            against = f"against a limit of {number(self.limits['absolute'])}"
        message = f"{what} is {value} at step {int(steps[-1])}, {against}, since step {onset}."
        doubling = float(self.bank.doubling[row]) * self.bank.steps_per_record()
        pace = doubling if math.isfinite(doubling) else None
        said = self._said(title, message, row, logs[:, -1], layers, pace)
        at_once = logs.shape[1] > 1 and int(steps[-1]) - int(steps[-2]) == 1
        if at_once and now - logs[row, -2] >= math.log(self.limits["single"]):
            leap = f"{short(_exp(now - float(logs[row, -2])))}x"
            said.evidence += (Evidence(label=labels.LEAP, value=leap, kind=said.kind,
                                       scope=self.scope),)  # fmt: skip
        return said, onset, base

    def _say_growth(self, row: int, step: int) -> tuple[Said, int, float]:
        level = self.bank.level()
        per_record = self.bank.steps_per_record()
        doubling = float(self.bank.doubling[row]) * per_record
        reach = float(self.bank.reach[row])
        onset = self.bank.onset(row)
        growing = np.isfinite(self.bank.doubling[1:])
        order = np.argsort(-np.where(growing, level[1:], -np.inf)) + 1
        layers = [int(r) for r in order if growing[r - 1]][:3]
        what = self._subject(row)
        title = f"{what} doubling every {short(doubling)} steps: {short(_exp(float(level[row])))}"
        message = (
            f"{what} is {number(_exp(float(level[row])))} at step {step}, grown "
            f"{short(_exp(reach))}x over the last {int(self.bank.window[row] * per_record)} steps "
            f"and accelerating since step {onset}."
        )
        base = float(level[row]) - reach
        return self._said(title, message, row, level, layers, doubling), onset, base

    def _subject(self, row: int) -> str:
        return "Gradient norm" if row == 0 else f"Gradient of {self.names[row][-32:]}"

    def _said(
        self,
        title: str,
        message: str,
        row: int,
        logs: F64,
        layers: list[int],
        doubling: float | None,
    ) -> Said:
        clip = f"clip {number(self.clip)}" if math.isfinite(self.clip) else "no clip"
        if layers:
            named = ", ".join(f"{self.names[r]} {number(_exp(float(logs[r])))}" for r in layers)
            message += f" Largest of those that rise: {named}."
        evidence = [
            Evidence(label="Gradient norm", value=number(_exp(float(logs[0]))), limit=clip,
                     kind="grad_norm", scope=self.scope)
        ]  # fmt: skip
        if doubling is not None:
            evidence.append(Evidence(label="Doubling time", value=f"{short(doubling)} steps",
                                     kind="grad_norm", scope=self.scope))  # fmt: skip
        evidence += [
            Evidence(label="Layer", value=number(_exp(float(logs[r]))), kind="grad_norm_layer",
                     scope=self.scope, layer=self.names[r])
            for r in layers
        ]  # fmt: skip
        layer = self.names[layers[0]] if layers else ("" if row == 0 else self.names[row])
        kind = "grad_norm" if row == 0 else "grad_norm_layer"
        return Said(title, message, tuple(evidence), kind, layer, doubling)

    def restart(self) -> None:
        self.bank.restart()
        self.reference = np.full(len(self.names), np.nan)
        self.start = np.full(len(self.names), np.nan)
        self.untrained = np.full(len(self.names), -np.inf)
        self.hits = np.zeros((len(self.names), 4), np.int8)
        self.losses, self.loss_usual = Ring(1, 256), float("nan")
        self.bars = None


def _exp(log: float) -> float:
    return math.exp(min(log, 709.0)) if not math.isnan(log) else math.nan


def _stretch_start(far: NDArray[np.bool_], steps: I64) -> int:
    """First step of the stretch that ends now, gaps of two records forgiven."""
    start, gap = len(far) - 1, 0
    for at in range(len(far) - 1, -1, -1):
        if far[at]:
            start, gap = at, 0
        elif (gap := gap + 1) > 2:
            break
    return int(steps[start])
