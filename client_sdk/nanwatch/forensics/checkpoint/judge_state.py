"""Findings about what stands beside the weights: optimizers, loss scale, counters, earlier files.

Pure: `CheckpointFacts` in, findings out. Thresholds and where they come from: docs/diagnose.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nanwatch.forensics.checkpoint.facts import (
    ChangeFacts,
    CheckpointFacts,
    Comparison,
    OptimizerFacts,
)
from nanwatch.forensics.checkpoint.findings import Advice, Finding, Severity, count, number, some
from nanwatch.forensics.checkpoint.judge_tensors import GO_BACK

GRADIENT_HUGE = 1e6
"""A gradient's root mean square that no usual loss gives; its square is 1e12."""

MOMENT_NEAR_LIMIT = 1e30
"""The second moment is a square in fp32: above this its own update overflows soon."""

RISE = 2.0
RISE_STEPS = 500
"""Adam: |m|/√v is 0.23 for noise and at most 1 for a constant gradient, so more than 1 means that
the last ten steps had larger gradients than the last thousand. Healthy runs: 0.19 to 0.30."""

UPDATE_RATIO = 0.1
"""Update over weights of one step (TheDeepChecker: 1e-4 to 1e-1)."""

SKIPPED_WARNING, SKIPPED_CRITICAL = 0.1, 0.5
GROWN_WARNING, GROWN_CRITICAL = 10.0, 1000.0


def judge_state(facts: CheckpointFacts) -> Iterator[Finding]:
    """All findings about state."""
    for optimizer in facts.optimizers:
        yield from _moments(optimizer)
        yield from _sizes(optimizer)
        yield from _rates(optimizer)
    yield from _scalers(facts)
    yield from _counters(facts)
    if facts.nan_values:
        yield Finding(
            "nan-values",
            "warning",
            f"Numbers stored beside the weights are NaN: {some(facts.nan_values)}.",
            facts.nan_values,
        )
    if facts.comparison is not None:
        yield from _changes(facts, facts.comparison)


# --- optimizers ----------------------------------------------------------------------------------


def _moments(optimizer: OptimizerFacts) -> Iterator[Finding]:
    bad = [state for state in optimizer.states if state.bad]
    if bad:
        keys = sorted({key for state in bad for key in state.bad})
        everything = len(bad) == len(optimizer.states)
        share = "all" if everything else f"{len(bad)} of"
        yield Finding(
            "nonfinite-optimizer",
            "critical",
            f"The state of {optimizer.name} ({optimizer.kind}) is not finite for {share} "
            f"{count(len(optimizer.states), 'parameter')} ({', '.join(keys)}), first "
            f"{bad[0].name}: the next step makes those weights NaN, whatever the gradient is.",
            [state.name for state in bad],
            [
                GO_BACK,
                Advice(
                    "If the weights are finite: start from them with a new optimizer and a short "
                    "warm-up.",
                    "symptom",
                ),
            ],
        )
    negative = [state for state in optimizer.states if state.v_negative]
    if negative:
        yield Finding(
            "negative-moment",
            "critical",
            f"The second moment of {optimizer.name} is negative for "
            f"{some([s.name for s in negative])}: a mean of squares cannot be. Its square root is "
            "NaN.",
            [state.name for state in negative],
            [Advice("Start from the weights with a new optimizer.", "symptom")],
        )


def _sizes(optimizer: OptimizerFacts) -> Iterator[Finding]:
    states = [state for state in optimizer.states if not state.bad]
    worst = max(states, key=lambda s: s.v_max, default=None)
    if worst is not None and worst.v_max > GRADIENT_HUGE**2:
        critical = worst.v_max > MOMENT_NEAR_LIMIT
        text = (
            f"Gradients of {worst.name} were about {number(math.sqrt(worst.v_max))} an element "
            f"({optimizer.name}, second moment {number(worst.v_max)}): they have exploded"
        )
        text += ", and their squares are close to what fp32 can hold." if critical else "."
        yield Finding(
            "huge-moment",
            "critical" if critical else "warning",
            text,
            [worst.name],
            [
                Advice("Clip the gradient norm.", "symptom", "clip_grad_norm_(parameters, 1.0)"),
                Advice("Look for the cause: a long chain through time, a huge target.", "cause"),
            ],
        )
    if optimizer.kind == "Adam" and optimizer.steps_high >= RISE_STEPS:
        rise = rise_of(optimizer)
        if rise > RISE:
            yield Finding(
                "rising-gradient",
                "warning",
                f"The gradients of the last ten steps were much larger than those of the last "
                f"thousand ({optimizer.name}: |m|/√v is {rise:.2g}, 0.2 is usual): saved while "
                "they grew, or just after a spike.",
                [],
                [Advice("Prefer an earlier checkpoint; compare by --against.")],
            )
    ratio = update_ratio(optimizer)
    begun = optimizer.steps_high >= RISE_STEPS or optimizer.kind == "SGD"  # which counts no steps
    if ratio > UPDATE_RATIO and begun:
        yield Finding(
            "large-updates",
            "warning",
            f"The last update of {optimizer.name} changed the weights by {ratio:.0%} of their own "
            f"size in one step (usual: 0.1 %).",
            [],
            [Advice("Lower the learning rate by 10.", "symptom")],
        )
    never = [s for s in states if s.v_zero and s.step > 0 and len(s.shape) >= 2]
    if never and len(never) < len(states):
        yield Finding(
            "no-gradient",
            "notice",
            f"{some([s.name for s in never])}: no gradient other than zero ever reached it in "
            f"{number(max(s.step for s in never))} steps.",
            [state.name for state in never],
        )


def rise_of(optimizer: OptimizerFacts) -> float:
    """Norm of the first moment over that of the root of the second, all parameters together."""
    m = math.hypot(*(state.m_norm for state in optimizer.states))
    root = math.hypot(*(state.v_root_norm for state in optimizer.states))
    return m / root if root > 0 else 0.0


def update_ratio(optimizer: OptimizerFacts) -> float:
    """Norm of the last update over that of the weights, matrices together; 0 if not known."""
    known = [s for s in optimizer.states if s.weight_norm > 0 and len(s.shape) >= 2]
    weights = math.hypot(*(state.weight_norm for state in known))
    return math.hypot(*(state.update_norm for state in known)) / weights if weights > 0 else 0.0


def _rates(optimizer: OptimizerFacts) -> Iterator[Finding]:
    rates = [group.settings["lr"] for group in optimizer.groups if "lr" in group.settings]
    wrong = [rate for rate in rates if not math.isfinite(rate) or rate < 0]
    if wrong:
        yield Finding(
            "bad-lr",
            "critical",
            f"The learning rate of {optimizer.name} is {number(wrong[0])}: the next step makes the "
            "weights useless.",
            [optimizer.name],
        )
    elif optimizer.kind == "Adam" and rates and max(rates) > 0.1:
        yield Finding(
            "large-lr",
            "warning",
            f"The learning rate of {optimizer.name} is {number(max(rates))}; Adam moves every "
            "weight by about that much in each step.",
            [optimizer.name],
            [Advice("1e-4 to 1e-3 is usual.", "cause")],
        )
    factors = {group.lr_factor for group in optimizer.groups} - {1.0}
    if factors:
        yield Finding(
            "lr-factor",
            "notice",
            f"A command held the learning rate of {optimizer.name} at "
            f"{', '.join(number(f) for f in sorted(factors))} of its schedule when this was saved. "
            "It does not come back by itself when the file is loaded.",
            [optimizer.name],
        )


# --- loss scale, counters ------------------------------------------------------------------------


def _scalers(facts: CheckpointFacts) -> Iterator[Finding]:
    for name, scaler in facts.scalers.items():
        scale = scaler.get("scale", 1.0)
        title = name or "the gradient scaler"
        if not math.isfinite(scale) or scale <= 0:
            text = f"The loss scale of {title} is {number(scale)}: every gradient is useless."
        elif scale < 1.0:
            text = (
                f"The loss scale of {title} has fallen to {number(scale)}: nearly every step "
                "overflowed and was skipped."
            )
        else:
            continue
        advice = [Advice("Train in bf16 or fp32, or find what overflows.", "cause")]
        yield Finding("loss-scale", "critical", text, [name], [GO_BACK, *advice])


def _counters(facts: CheckpointFacts) -> Iterator[Finding]:
    applied = max((o.steps_high for o in facts.optimizers), default=0.0)
    for name in ("step", "global_step", "iteration", "iter", "batch_idx", "batch"):
        seen = facts.counters.get(name, 0.0)
        if seen <= 0 or applied <= 0:
            continue
        missing = seen - applied
        if facts.layout == "nanwatch":
            yield from _skipped(missing, seen, applied)
        elif missing > 0.1 * seen and not _is_accumulation(seen / applied):
            yield Finding(
                "skipped-updates",
                "notice",
                f"The file says {name} {number(seen)}, and no optimizer made more than "
                f"{number(applied)} updates: the rest was skipped, unless steps are counted "
                "otherwise here.",
            )
        return


def _is_accumulation(ratio: float) -> bool:
    """A whole number of batches goes into one update."""
    return round(ratio) >= 2 and abs(ratio - round(ratio)) < 0.02 * ratio


def _skipped(missing: float, seen: float, applied: float) -> Iterator[Finding]:
    share = missing / seen
    if missing < 20 or share < SKIPPED_WARNING:
        return
    severity: Severity = "critical" if share >= SKIPPED_CRITICAL else "warning"
    yield Finding(
        "skipped-updates",
        severity,
        f"Of {number(seen)} attempts only {number(applied)} changed the weights: the other "
        f"{share:.0%} were skipped.",
        [],
        [Advice("Find why gradients are not finite: --script runs one backward pass.", "cause")],
    )


# --- an earlier checkpoint -----------------------------------------------------------------------


def _changes(facts: CheckpointFacts, found: Comparison) -> Iterator[Finding]:
    became = [c for c in found.changes if c.bad_after and not c.bad_before]
    if became:
        yield Finding(
            "became-nonfinite",
            "critical",
            f"{count(len(became), 'tensor')} became not finite since {_name(found)}, first in "
            f"order {became[0].name}; it was finite there.",
            [c.name for c in became],
            [Advice(f"{_name(found)} can be gone back to, if its own diagnosis is good.")],
        )
    grown = [c for c in found.changes if _growth(c) > GROWN_WARNING]
    if grown:
        grown.sort(key=_growth, reverse=True)
        first = grown[0]
        yield Finding(
            "grown-weights",
            "critical" if _growth(first) > GROWN_CRITICAL else "warning",
            f"{some([c.name for c in grown])}: grew {number(_growth(first))}-fold since "
            f"{_name(found)} (norm {number(first.before)} → {number(first.after)}).",
            [c.name for c in grown],
            [GO_BACK],
        )
    yield from _frozen(facts, found)
    lost = found.vanished + found.reshaped
    if lost:
        yield Finding(
            "different-model",
            "notice",
            f"Not the same tensors as in {_name(found)}: {len(found.appeared)} new, "
            f"{len(found.vanished)} gone, {len(found.reshaped)} of another shape ({some(lost)}).",
            lost,
        )


def _growth(change: ChangeFacts) -> float:
    if change.bad_after or change.bad_before or change.elements < 4 or change.before <= 0:
        return 0.0
    # Biases and scales begin at zero or one and may grow manyfold: what counts is an element.
    root = math.sqrt(change.elements)
    return change.after / max(change.before, 0.01 * root)


def _frozen(facts: CheckpointFacts, found: Comparison) -> Iterator[Finding]:
    known = [c for c in found.changes if c.elements]
    same = [c for c in known if c.same]
    if not same:
        return
    later = max((o.steps_high for o in facts.optimizers), default=0.0)
    moved = later > found.steps_before or any(
        facts.counters.get(key, 0.0) > value for key, value in found.counters_before.items()
    )
    if len(same) == len(known):
        yield Finding(
            "frozen-weights",
            "critical" if moved else "warning",
            f"All {len(same)} tensors are bit for bit as in {_name(found)}"
            f"{', although the steps went on' if moved else ''}: no update changed anything.",
            [],
            [
                Advice(
                    "See whether every update is skipped (gradients that are not finite), the "
                    "learning rate is 0, or the optimizer has other parameters.",
                    "cause",
                )
            ],
        )
    else:
        yield Finding(
            "frozen-weights",
            "notice",
            f"{len(same)} of {len(known)} tensors did not change at all since {_name(found)}: "
            f"{some([c.name for c in same])}.",
            [c.name for c in same],
        )


def _name(found: Comparison) -> str:
    return found.earlier.rstrip("/").rpartition("/")[2]
