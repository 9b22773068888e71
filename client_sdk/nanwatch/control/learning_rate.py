"""The learning rate as a factor on whatever the script or scheduler asks for.

The pre-hook of the outermost optimizer step scales `lr`, the post-hook puts the original object
back, so that every scheduler goes on as if nothing happened and groups keep their ratios. While
it is not 1 the factor stands in `param_groups[i]["nanwatch_lr_factor"]`, so that any checkpoint
of the user carries it. Training thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

KEY = "nanwatch_lr_factor"


def factor_of(optimizer: Any) -> float:
    """Factor in force for an optimizer."""
    groups = optimizer.param_groups
    return float(groups[0].get(KEY, 1.0)) if groups else 1.0


def set_factor(optimizer: Any, factor: float) -> None:
    """Put a factor on every group of an optimizer; 1 removes it."""
    for group in optimizer.param_groups:
        if factor == 1.0:
            group.pop(KEY, None)
        else:
            group[KEY] = factor


def share_factor(optimizer: Any) -> None:
    """A group added after a command runs under the same factor, so that ratios are kept."""
    factor = factor_of(optimizer)
    if factor != 1.0:
        for group in optimizer.param_groups:
            group.setdefault(KEY, factor)


def as_float(rate: Any) -> float:
    """A learning rate as a number; tensors on a device are read, which is rare and cheap."""
    return float(rate.detach() if hasattr(rate, "detach") else rate)  # it may be learnt itself


class Scaling:
    """Scales and restores the learning rates of optimizers around their steps."""

    def __init__(self, bounds: Callable[[], tuple[float, float] | None] = lambda: None) -> None:
        self.bounds = bounds
        self._changed: list[tuple[dict[str, Any], Any, Any]] = []
        """(group, original, what we put there): empty outside a step."""

    def begin(self, optimizer: Any) -> None:
        """Before the outermost step: scale every group that carries a factor."""
        self.repair()
        for group in optimizer.param_groups:
            factor = group.get(KEY)
            if factor is None or factor == 1.0 or "lr" not in group:
                continue
            original = group["lr"]
            if getattr(getattr(original, "device", None), "type", "cpu") != "cpu":
                self._scale_there(group, original, factor)
                continue
            factor = self._within(as_float(original), factor)
            # Noted first, changed then: a Ctrl-C may come between any two lines.
            if hasattr(original, "clone"):
                if any(ours is original for _, _, ours in self._changed):
                    continue  # groups may share one tensor
                self._changed.append((group, original.clone(), original))
                original.mul_(factor)
            else:
                scaled = original * factor
                self._changed.append((group, original, scaled))
                group["lr"] = scaled

    def _scale_there(self, group: dict[str, Any], original: Any, factor: float) -> None:
        """The same for a rate on a device, without reading it: that would wait for the device."""
        if any(ours is original for _, _, ours in self._changed):
            return  # groups may share one tensor
        saved = original.clone()
        self._changed.append((group, saved, original))
        original.mul_(factor)
        bounds = self.bounds()
        if bounds is None:
            return
        low, high = bounds
        # Bounds hold what the factor does, never the schedule itself.
        if factor > 1:
            original.copy_(original.clamp(max=high).maximum(saved))
        else:
            original.copy_(original.clamp(min=low).minimum(saved))

    def _within(self, scheduled: float, factor: float) -> float:
        """The factor, cut so that it never carries a moving schedule out of the bounds."""
        bounds = self.bounds()
        if bounds is None or scheduled <= 0:
            return factor
        low, high = bounds
        if factor > 1:
            return max(1.0, min(factor, high / scheduled))
        return min(1.0, max(factor, low / scheduled))

    def repair(self) -> None:
        """After the step, or before the next one if a step raised: put the originals back."""
        if not self._changed:
            return
        for group, original, ours in self._changed:
            if hasattr(ours, "copy_"):
                ours.copy_(original)
            elif group.get("lr") is ours:
                group["lr"] = original
        self._changed.clear()

    @property
    def dirty(self) -> bool:
        """True while a scaled value stands in a group."""
        return bool(self._changed)


def rates_of(scope: str, optimizer: Any, *, scheduled: bool) -> dict[str, float]:
    """Learning rates by `scope`, `scope#1`, …, outside a step: as scheduled, or in force."""
    rates: dict[str, float] = {}
    for index, group in enumerate(optimizer.param_groups):
        if "lr" not in group:
            continue
        factor = 1.0 if scheduled else float(group.get(KEY, 1.0))
        rates[f"{scope}#{index}" if index else scope] = as_float(group["lr"]) * factor
    return rates


def wanted_factors(
    kind: str, value: float, optimizers: Iterable[tuple[str, Any]]
) -> list[tuple[str, Any, float]]:
    """(scope, optimizer, new factor) for `set_lr value` or `scale_lr value`.

    `set_lr` makes the first group of each optimizer run at `value` now; `scale_lr` multiplies
    what is in force.
    """
    wanted: list[tuple[str, Any, float]] = []
    for scope, optimizer in optimizers:
        if not optimizer.param_groups:
            continue
        if kind == "scale_lr":
            wanted.append((scope, optimizer, factor_of(optimizer) * value))
            continue
        scheduled = as_float(optimizer.param_groups[0].get("lr", 0.0))
        if scheduled > 0:
            wanted.append((scope, optimizer, value / scheduled))
    return wanted
