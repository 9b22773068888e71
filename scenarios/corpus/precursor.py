"""Whether a series left its own healthy range before a run became non-finite. Pure numpy.

By the fixed formula of docs/corpus.md, in hindsight; called by `labels`.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nanwatch_server.store.codec import F64
from scenarios.corpus.reading import LEVEL, Column, Reading

KINDS = ("loss", "grad_norm", "grad_norm_layer", "param_norm", "param_norm_layer", "adam_rms",
         "adam_rms_layer")  # fmt: skip
GROWS = ("q_mean", "q_std", "q_min", "q_max", "logit_max", "attention_logit_max_layer",
         "update_norm", "update_norm_layer", "update_ratio_layer")  # fmt: skip
"""Of these growth alone says nothing: values and logits grow as a model learns, updates as the rate
warms up. A jump still does."""
AHEAD = 5
WINDOW, WINDOW_LEAST = 128, 16
JUMP, ROBUST_Z, FLOOR = 4.0, 6.0, 0.05
GROWN = 10.0
FIRST = 3
OF, OUT = 5, 3
STAYS = 0.5


def left_at(reading: Reading, first_bad: int) -> int | None:
    """Attempt at which the earliest series left its range for good; None if none did in time."""
    found = [
        step
        for (stage, scope, kind, _), column in reading.columns.items()
        if stage == "train" and kind in (*KINDS, *GROWS)
        if (step := _left(reading.good(column, scope), first_bad, kind in GROWS)) is not None
    ]
    for scope, column in reading.of("clip_threshold"):
        norm = reading.one("grad_norm", scope)
        if norm is not None and len(norm) == len(column):
            ratio = reading.good(Column(norm.steps, norm.values / column.values), scope)
            if (step := _left(ratio, first_bad, False)) is not None:
                found.append(step)
    return min(found, default=None)


def _left(column: Column, first_bad: int, grows: bool) -> int | None:
    """`grows`: the series grows in good health, so that growth alone says nothing."""
    steps = column.steps
    if not len(steps):
        return None
    limits = _limits(column.values, grows)
    sizes = np.abs(column.values)
    outside = sizes >= limits
    for at in np.flatnonzero(outside):
        if steps[at] > first_bad - AHEAD:
            return None
        if outside[at : at + OF].sum() >= min(OUT, len(steps) - at) and (
            (sizes[at:] >= limits[at]).mean() >= STAYS
        ):
            return int(steps[at])
    return None


def _limits(values: F64, grows: bool) -> F64:
    """For each record the size from which it is outside; infinite where it is not."""
    sizes = np.abs(values)
    limits = np.full(len(sizes), np.inf)
    signs = values.min() < 0 < values.max()
    if not (grows or signs):
        limits[FIRST:WINDOW_LEAST] = GROWN * np.median(sizes[:FIRST])
    with np.errstate(divide="ignore"):
        logs = np.log(sizes)
    for at in _candidates(sizes):
        before = logs[max(0, at - WINDOW) : at]
        middle = np.median(before)
        with np.errstate(invalid="ignore"):
            scale = max(1.4826 * float(np.median(np.abs(before - middle))), FLOOR)
        limits[at] = np.exp(middle + max(np.log(JUMP), ROBUST_Z * scale))
    if not grows and not signs and len(sizes) > LEVEL:
        medians = np.median(sliding_window_view(sizes[:-1], LEVEL), axis=1)
        lowest = np.minimum.accumulate(medians)
        limits[LEVEL:] = np.fmin(limits[LEVEL:], GROWN * lowest)
    return np.where(limits > 0, limits, np.inf)


def _candidates(sizes: F64) -> np.ndarray:
    """Records that can be a jump at all: those far above the least of the window before them."""
    padded = np.concatenate([np.full(WINDOW, np.inf), sizes[:-1]])
    least = sliding_window_view(padded, WINDOW).min(axis=1)
    far = sizes >= JUMP * least
    far[:WINDOW_LEAST] = False
    return np.flatnonzero(far)
