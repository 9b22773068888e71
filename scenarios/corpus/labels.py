"""What a run was, told in hindsight from its trace by the rules of docs/corpus.md. Pure.

Nothing here uses what the rules under test compute. The scorecard calls `label`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from scenarios.corpus import precursor
from scenarios.corpus.causes import CAUSES
from scenarios.corpus.reading import START, Column, Course, Reading, course
from scenarios.corpus.traces import Trace

SKIPS_OF, SKIPS_SHARE = 200, 0.5
FROZEN_ATTEMPTS, FROZEN_RECORDS, FROZEN_FEW = 100, 20, 5
SAME_LOSS = 50
WORSE, WORSE_FROM = 3.0, 2.0
LOST, LOST_FROM, LOST_SPREADS = 2 / 3, 1 / 3, 3.0
BEST_LEAST = 1e-3
"""A best below this share of the start counts as this much."""
LEARNT, CHANCE = 0.9, 0.97
RUNAWAY, RUNAWAY_FROM, STILL = 10.0, 2.0, 1.3
BEYOND = 3.0
HIDDEN, HIDDEN_FROM = 100.0, 10.0
ENTROPY = 0.1
HEALTHY_OVER_START, HEALTHY_OVER_BEST, HEALTHY_LEARNT, HEALTHY_MOVED = 2.0, 3.0, 0.95, 0.1
EARLY = 20
"""Trouble within so many attempts leaves no time to act from outside."""

NOT_COMPARABLE = ("rl", "gan", "adversarial", "curriculum", "continual")
"""Families (or beginnings of their names) whose loss cannot be compared over time."""

Symptom = Callable[[Reading], int | None]


class Label(NamedTuple):
    """What a run was."""

    kind: Literal["sick", "healthy", "left out"]
    why: str
    """Symptoms of a sick run, or why it was left out."""
    onset: int | None = None
    first_bad: int | None = None
    """First attempt with a value that is not finite."""
    precursor: int | None = None
    """Attempt at which a series left its healthy range before that; None if none did."""
    curable: bool = False


def label(trace: Trace) -> Label:
    """The label of a run."""
    reading = Reading(trace)
    if trace.about.sick:
        return _sick(reading)
    why = unhealthy(reading)
    return Label("left out", why) if why else Label("healthy", "")


def _sick(reading: Reading) -> Label:
    found = {
        name: onset for name, symptom in SYMPTOMS.items() if (onset := symptom(reading)) is not None
    }
    if not found:
        return Label("left out", "meant to be sick, no symptom")
    left = None if reading.first_bad is None else precursor.left_at(reading, reading.first_bad)
    onset = min(min(found.values()), math.inf if left is None else left)
    cause = CAUSES[reading.trace.about.cause]
    return Label(
        "sick",
        " ".join(found),
        int(onset),
        reading.first_bad,
        left,
        cause.curable and onset > EARLY,
    )


# --- symptoms of sick runs: the onset, or None ---------------------------------------------------


def _nonfinite(reading: Reading) -> int | None:
    return reading.first_bad


def _crashed(reading: Reading) -> int | None:
    return reading.last if reading.trace.ending else None


def _skipping(reading: Reading) -> int | None:
    onsets = []
    for _, (steps, values) in reading.of("update_applied"):
        skipped = values[-SKIPS_OF:] == 0
        if len(skipped) >= SKIPS_OF // 2 and skipped.mean() >= SKIPS_SHARE:
            onsets.append(int(steps[-len(skipped) + skipped.argmax()]))
    return min(onsets, default=None)


def _frozen(reading: Reading) -> int | None:
    onsets = []
    for scope, loss in reading.of("loss"):
        if loss.values[-1] == 0:
            continue
        for kind in ("update_norm", "lr"):
            column = reading.one(kind, scope)
            if column is None:
                continue
            recent = column.values[column.steps > reading.last - FROZEN_ATTEMPTS]
            if len(recent) < FROZEN_RECORDS:
                recent = column.values[-FROZEN_FEW:]
            if len(recent) >= FROZEN_FEW and not recent.any():
                onsets.append(int(column.steps[_behind_last(column.values != 0)]))
    return min(onsets, default=None)


def _constant(reading: Reading) -> int | None:
    for _, (steps, values) in reading.of("loss"):
        same = np.concatenate([[False], values[1:] == values[:-1], [False]])
        edges = np.flatnonzero(np.diff(same.astype(np.int8)))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if end - begin + 1 >= SAME_LOSS:
                return int(steps[begin])
    return None


def _worse(reading: Reading) -> int | None:
    onsets = []
    for column in reading.losses():
        found = course(column)
        if found is None:
            continue
        positive = column.values.min() >= 0
        lost = _lost_positive(found) if positive else _lost_signed(found)
        if lost is not None:
            onsets.append(lost)
    for _, (steps, values) in reading.of("loss", stage="val"):
        if len(values) >= 4 and np.isfinite(values).all() and values.min() > 0:
            high = values > WORSE_FROM * values.min()
            if values[-1] >= WORSE * values.min():
                onsets.append(int(steps[_behind_last(~high)]))
    return min(onsets, default=None)


def _lost_positive(found: Course) -> int | None:
    best = max(found.best, BEST_LEAST * found.start)
    if not found.end >= WORSE * best > 0:
        return None
    return int(found.firsts[_behind_last(found.levels <= WORSE_FROM * best)])


def _lost_signed(found: Course) -> int | None:
    gain = max(0.0, found.start - found.best)
    if found.end - found.best < max(LOST * gain, LOST_SPREADS * found.spread):
        return None
    kept = found.best + max(LOST_FROM * gain, found.spread)
    return int(found.firsts[_behind_last(found.levels <= kept)])


def _learnt_nothing(reading: Reading) -> int | None:
    rewards = [found for _, c in reading.of("reward") if (found := _reward_rise(c)) is not None]
    if rewards:
        return None if any(rewards) else 0
    losses = [found for c in reading.losses() if (found := course(c)) is not None]
    classes = _number(reading.trace.facts.get("classes"))
    chance = CHANCE * math.log(classes) if classes is not None and classes > 1 else math.inf
    if not losses or any(_learnt(found, chance) for found in losses):
        return None
    return 0


def _learnt(found: Course, chance: float) -> bool:
    if found.levels.min() < 0:
        return found.best < found.start - found.spread
    late = float(found.levels[-max(1, len(found.levels) // 4) :].min())
    return found.best < LEARNT * found.start and late < chance


def _reward_rise(column: Column) -> bool | None:
    """True if rewards ended above where they began; None if there are too few."""
    values = column.values[np.isfinite(column.values)]
    tenth = len(values) // 10
    if tenth < 2:
        return None
    first, last = values[:tenth], values[-tenth:]
    spread = 1.4826 * float(np.median(np.abs(first - np.median(first))))
    return bool(np.median(last) > np.median(first) + spread)


def _runaway(reading: Reading) -> int | None:
    onsets = []
    kinds = ("param_norm", "logit_max", "attention_logit_max_layer", "q_max", "q_min", "q_mean")
    for scope, column in reading.of(*kinds):
        steps, values = reading.good(column, scope)
        if len(values) < 8:
            continue
        values = np.abs(values)
        few = max(3, len(values) // 10)
        start = float(np.median(values[: max(3, int((steps <= START).sum()))]))
        at = len(values) * 3 // 4
        quarter = float(np.median(values[at - few // 2 : at + few // 2 + 1]))
        end = float(np.median(values[-few:]))
        if start > 0 and end >= RUNAWAY * start and end >= STILL * quarter:
            onsets.append(int(steps[_behind_last(values <= RUNAWAY_FROM * start)]))
    return min(onsets, default=None)


def _beyond_bound(reading: Reading) -> int | None:
    gamma = _number(reading.trace.facts.get("gamma"))
    kinds = ("reward", "reward_abs_max")
    rewards = [float(np.nanmax(np.abs(c.values))) for _, c in reading.of(*kinds) if len(c)]
    if gamma is None or not 0 < gamma < 1 or not rewards:
        return None
    bound = max(rewards) / (1 - gamma)
    onsets = []
    for scope, column in reading.of("q_max", "q_min", "q_mean"):
        steps, values = reading.good(column, scope)
        if len(values) >= 8 and np.median(np.abs(values[-max(3, len(values) // 10) :])) > (
            BEYOND * bound
        ):
            onsets.append(int(steps[_behind_last(np.abs(values) <= bound)]))
    return min(onsets, default=None)


def _hidden(reading: Reading) -> int | None:
    onsets = []
    for scope, column in reading.of("clip_threshold"):
        norm = reading.one("grad_norm", scope)
        if norm is None or len(norm) != len(column):
            continue
        ratio = reading.good(Column(norm.steps, norm.values / column.values), scope)
        found = course(ratio)
        if found is not None and found.end >= HIDDEN:
            onsets.append(int(found.firsts[_behind_last(found.levels < HIDDEN_FROM)]))
    return min(onsets, default=None)


def _entropy(reading: Reading) -> int | None:
    for _, (steps, values) in reading.of("entropy"):
        if len(values) < 20:
            continue
        start = float(np.median(values[: max(3, len(values) // 10)]))
        level = np.array([np.median(values[i : i + 5]) for i in range(len(values) - 4)])
        low = level <= ENTROPY * start
        if start > 0 and low.any() and steps[low.argmax()] <= reading.last / 2:
            return int(steps[low.argmax()])
    return None


SYMPTOMS: dict[str, Symptom] = {
    "nonfinite": _nonfinite,
    "crashed": _crashed,
    "skipping": _skipping,
    "frozen": _frozen,
    "constant": _constant,
    "worse": _worse,
    "learnt-nothing": _learnt_nothing,
    "runaway": _runaway,
    "beyond-bound": _beyond_bound,
    "hidden": _hidden,
    "entropy": _entropy,
}


def _behind_last(mask: np.ndarray) -> int:
    """Place behind the last True, at most the last place; 0 if there is none."""
    places = np.flatnonzero(mask)
    return min(int(places[-1]) + 1, len(mask) - 1) if len(places) else 0


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


# --- runs that were meant to be healthy ----------------------------------------------------------


def unhealthy(reading: Reading) -> str:
    """Why a run that was meant to be healthy is not; empty if it is."""
    for name in ("nonfinite", "crashed", "skipping"):
        if SYMPTOMS[name](reading) is not None:
            return name
    if not reading.trace.about.family.startswith(NOT_COMPARABLE):
        for column in reading.losses():
            found = course(column)
            if found is not None and _ended_above(found, column.values.min() >= 0):
                return "ended above its start"
    return "" if _has_learnt(reading) else "learnt nothing"


def _ended_above(found: Course, positive: bool) -> bool:
    if positive:
        return found.end > HEALTHY_OVER_START * found.start and (
            found.end > HEALTHY_OVER_BEST * found.best
        )
    return found.end > found.start + max(found.spread, found.start - found.best)


def _has_learnt(reading: Reading) -> bool:
    for _, column in reading.of("reward"):
        if _reward_rise(column):
            return True
    for column in reading.losses():
        found = course(column)
        if found is None:
            continue
        positive = found.levels.min() >= 0
        if found.best < (HEALTHY_LEARNT * found.start if positive else found.start - found.spread):
            return True
    for (stage, *_), (_, values) in reading.columns.items():
        if stage == "val" and len(values) >= 2 and np.isfinite(values).all():
            first, last = float(values[0]), float(values[-1])
            if abs(last - first) >= HEALTHY_MOVED * max(abs(first), abs(last)) > 0:
                return True
    return False
