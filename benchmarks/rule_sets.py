"""Published rule sets on recorded traces: the attempt at which each would first have spoken.

Called by `detection`. Thresholds are those of the papers and of their code, as collected in the
project's notes on detection. What each could be computed from:

- SageMaker Debugger: exploding tensor (not finite), vanishing gradient (norm of a layer < 1e-7; its
  own test is on mean absolute values, which are smaller), update ratio outside [1e-8, 10], more
  than half of a layer dead, loss not lower by 0.1 % than 10 saves ago. Saves every 25 attempts: its
  default of 500 would see two or three of a run. Not recorded: tanh and sigmoid inputs,
  confusion, wall-clock rules.
- AutoTrainer: first against last layer's gradient norm (vanishing: <= 1e-3 and first <= 1e-4;
  exploding: >= 70), NaN or loss >= 1e3, dead units >= 0.7; looked at every 3rd attempt. Its rules
  are asked only below the target accuracy, which is not recorded: here, until the loss has
  halved. Not recorded: accuracy, for oscillation and slow convergence.
- DeepDiagnosis: dead units >= 0.7, a layer's gradient norm < 1e-7, unchanged weights of a layer,
  not finite. Not recorded: variance of tensors, activations out of range, accuracy.
- Lightning: `EarlyStopping(check_finite)` and `terminate_on_nan`: loss or weights not finite.
- OLMo-core: `SkipStepOptimizer`: loss or gradient norm above mean + 6 standard deviations of the
  last 128 attempts (64 at least), or not finite.
- ZClip: gradient norm with z > 2.5 by an exponential mean and variance (alpha 0.97, 25 attempts of
  warming up), which are fed the clipped value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scenarios.corpus.reading import Column, Reading, course

F64 = NDArray[np.float64]
RuleSet = Callable[[Reading], int | None]

SAVE_EVERY = 25
VANISHED = 1e-7
OLMO_WINDOW, OLMO_SIGMA = 128, 6.0
ZCLIP_ALPHA, ZCLIP_Z, ZCLIP_WARM_UP = 0.97, 2.5, 25


def _first(column: Column, alarm: NDArray[np.bool_]) -> Iterator[int]:
    """The first attempt at which the alarm is on, if it ever is."""
    if alarm.any():
        yield int(column.steps[alarm.argmax()])


def _every(column: Column, attempts: int) -> Column:
    """The records at which a tool that looks every so many attempts would look."""
    places = np.searchsorted(column.steps, np.arange(0, column.steps[-1] + 1, attempts))
    return column.where(np.unique(places))


def _earliest(steps: Iterator[int]) -> int | None:
    return min(steps, default=None)


# --- SageMaker Debugger --------------------------------------------------------------------------


def sagemaker(reading: Reading) -> int | None:
    """Its built-in rules."""
    return _earliest(_sagemaker(reading))


def _sagemaker(reading: Reading) -> Iterator[int]:
    for _, column in reading.of("loss", "grad_norm", "param_norm"):
        seen = _every(column, SAVE_EVERY)
        yield from _first(seen, ~np.isfinite(seen.values))
    for _, column in reading.of("grad_norm_layer"):
        seen = _every(column, SAVE_EVERY)
        yield from _first(seen, seen.values < VANISHED)
    for _, column in reading.of("update_ratio_layer"):
        yield from _first(column, (column.values > 10) | (column.values < 1e-8))
    for _, column in reading.of("dead_fraction_layer"):
        yield from _first(column, column.values > 0.5)
    for _, column in reading.of("loss"):
        seen = _every(column, SAVE_EVERY)
        before, now = seen.values[:-10], seen.values[10:]
        if len(now):
            yield from _first(
                Column(seen.steps[10:], now), ~(now < before - 0.001 * np.abs(before))
            )


# --- AutoTrainer ---------------------------------------------------------------------------------


def autotrainer(reading: Reading) -> int | None:
    """Its monitor, every 3rd attempt."""
    return _earliest(_autotrainer(reading))


def _autotrainer(reading: Reading) -> Iterator[int]:
    for scope, column in reading.of("loss"):
        open_until = _halved(column)
        seen = _every(column, 3)
        yield from _first(
            seen, (~np.isfinite(seen.values) | (seen.values >= 1e3)) & (seen.steps < open_until)
        )
        layers = [
            found
            for (stage, owner, kind, _), found in reading.columns.items()
            if (stage, owner, kind) == ("train", scope, "grad_norm_layer")
        ]
        if len(layers) > 1 and len(layers[0]) == len(layers[-1]):
            first, last = _every(layers[0], 3), _every(layers[-1], 3)
            with np.errstate(all="ignore"):
                ratio = first.values / last.values
            alarm = (ratio <= 1e-3) & (first.values <= 1e-4)
            alarm |= (ratio >= 70) | ~np.isfinite(first.values)
            yield from _first(first, alarm & (first.steps < open_until))
        for owner, dead in reading.of("dead_fraction_layer"):
            if owner == scope:
                yield from _first(dead, (dead.values >= 0.7) & (dead.steps < open_until))


def _halved(column: Column) -> float:
    """Attempt from which on the loss has been half of what it was at the start."""
    found = course(column)
    if found is None or found.levels.min() < 0:
        return np.inf
    low = found.levels <= found.start / 2
    return float(found.firsts[low.argmax()]) if low.any() else np.inf


# --- the others ----------------------------------------------------------------------------------


def deepdiagnosis(reading: Reading) -> int | None:
    """Its symptoms of layers."""
    return _earliest(_deepdiagnosis(reading))


def _deepdiagnosis(reading: Reading) -> Iterator[int]:
    for _, column in reading.of("dead_fraction_layer"):
        yield from _first(column, column.values >= 0.7)
    for _, column in reading.of("grad_norm_layer"):
        yield from _first(column, (column.values < VANISHED) | ~np.isfinite(column.values))
    for _, column in reading.of("update_norm_layer"):
        yield from _first(column, column.values == 0)
    for _, column in reading.of("loss", "param_norm"):
        yield from _first(column, ~np.isfinite(column.values))


def lightning(reading: Reading) -> int | None:
    """Loss or weights not finite."""
    return _earliest(
        step
        for _, column in reading.of("loss", "param_norm")
        for step in _first(column, ~np.isfinite(column.values))
    )


def olmo_core(reading: Reading) -> int | None:
    """Steps that its optimizer would skip."""
    return _earliest(
        step
        for _, column in reading.of("loss", "grad_norm")
        for step in _first(column, _beyond_six_sigma(column.values))
    )


def _beyond_six_sigma(values: F64) -> NDArray[np.bool_]:
    padded = np.concatenate([np.full(OLMO_WINDOW, np.nan), values[:-1]])
    windows = sliding_window_view(padded, OLMO_WINDOW)
    enough = np.arange(len(values)) >= OLMO_WINDOW // 2
    alarm = np.zeros(len(values), bool)
    for rows in np.array_split(np.arange(len(values)), max(1, len(values) // 512)):
        part = windows[rows]
        known = np.where(np.isfinite(part), part, np.nan)
        with np.errstate(all="ignore"):
            count = np.isfinite(known).sum(axis=1)
            mean = np.nansum(known, axis=1) / count
            spread = np.sqrt(np.nansum((known - mean[:, None]) ** 2, axis=1) / (count - 1))
            alarm[rows] = values[rows] - mean > OLMO_SIGMA * spread
    return (alarm & enough) | ~np.isfinite(values)


def zclip(reading: Reading) -> int | None:
    """Attempts whose gradient it would clip."""
    return _earliest(
        step
        for _, column in reading.of("grad_norm")
        for step in _first(column, _z_above(column.values))
    )


def _z_above(values: F64) -> NDArray[np.bool_]:
    alarm = np.zeros(len(values), bool)
    warm = values[:ZCLIP_WARM_UP]
    warm = warm[np.isfinite(warm)]
    mean, variance = (float(warm.mean()), float(warm.var())) if len(warm) else (0.0, 0.0)
    for at, value in enumerate(values[ZCLIP_WARM_UP:].tolist(), ZCLIP_WARM_UP):
        if not np.isfinite(value):
            alarm[at] = True
            break
        spread = variance**0.5
        z = (value - mean) / (spread + 1e-6)
        if z > ZCLIP_Z:
            alarm[at] = True
            value = mean + ZCLIP_Z * spread / (z / ZCLIP_Z)
        mean = ZCLIP_ALPHA * mean + (1 - ZCLIP_ALPHA) * value
        variance = ZCLIP_ALPHA * variance + (1 - ZCLIP_ALPHA) * (value - mean) ** 2
    return alarm


RULE_SETS: dict[str, RuleSet] = {
    "SageMaker Debugger": sagemaker,
    "AutoTrainer": autotrainer,
    "DeepDiagnosis": deepdiagnosis,
    "Lightning": lightning,
    "OLMo-core": olmo_core,
    "ZClip": zclip,
}
