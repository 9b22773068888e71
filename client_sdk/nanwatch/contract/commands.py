"""Which commands exist and what a run allows: the same check on both sides.

The server calls `refusal` to answer a person at once; the SDK calls it again before it applies
anything, because only the bounds in the training script count.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

CommandKind = Literal["set_lr", "scale_lr", "checkpoint", "stop", "arm_tracing"]
COMMAND_KINDS: tuple[CommandKind, ...] = (
    "set_lr",
    "scale_lr",
    "checkpoint",
    "stop",
    "arm_tracing",
)

ALL_RANKS_AT_ONCE = frozenset({"set_lr", "scale_lr", "stop"})
"""Commands that must take effect on every rank at the same step."""

TRACING_ATTEMPTS_MAX = 1_000
"""Longest deep tracing one command may ask for."""

State = Literal[
    "queued",
    "delivered",
    "armed",
    "applied",
    "verified",
    "rejected",
    "expired",
    "cancelled",
    "superseded",
    "failed",
    "unknown",
]

TERMINAL: frozenset[str] = frozenset(
    {"verified", "rejected", "expired", "cancelled", "superseded", "failed"}
)

TTL_S: dict[str, float] = {
    "set_lr": 60.0,
    "scale_lr": 60.0,
    "checkpoint": 300.0,
    "stop": 600.0,
    "arm_tracing": 60.0,
}
"""Least time to live in seconds; the server takes max(this, 3 × median step time)."""


class ControlOffer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the run lets people do. Everything absent is forbidden."""

    lr: tuple[float, float] | None = None
    """Bounds of the absolute learning rate."""
    lr_factor: tuple[float, float] | None = None
    """Bounds of the factor on the schedule."""
    checkpoint: bool = False
    stop: bool = False
    tracing: bool = False
    world: int = 1
    """Processes of the training. Commands reach one of them only."""
    granted_by: str = "script"
    """`script` or `launch`, shown on the page."""

    @property
    def empty(self) -> bool:
        """True for a read-only run."""
        return not (self.lr or self.lr_factor or self.checkpoint or self.stop or self.tracing)


def allowed_kinds(offer: ControlOffer | None) -> list[CommandKind]:
    """Commands the run lets people send."""
    if offer is None:
        return []
    return [kind for kind in _granted(offer) if not ranks_refusal(kind, offer.world)]


def ranks_refusal(kind: str, world: int) -> str:
    """Why one of `world` ranks cannot obey alone; empty if it can."""
    if world == 1 or kind not in ALL_RANKS_AT_ONCE:
        return ""
    return (
        f"this training has {world} ranks, and {kind} on one of them alone would tear them apart: "
        "it is refused until commands take effect on all ranks at the same step"
    )


def _granted(offer: ControlOffer) -> list[CommandKind]:
    granted = {
        "set_lr": offer.lr or offer.lr_factor,
        "scale_lr": offer.lr or offer.lr_factor,
        "checkpoint": offer.checkpoint,
        "stop": offer.stop,
        "arm_tracing": offer.tracing,
    }
    return [kind for kind in COMMAND_KINDS if granted[kind]]


def refusal(
    offer: ControlOffer | None,
    kind: str,
    args: dict[str, object],
    lr_now: dict[str, float],
    lr_scheduled: dict[str, float],
) -> str | None:
    """Why the command is refused, or None if the run allows it.

    `lr_now` and `lr_scheduled` map scope (`scope#1` for its second parameter group, and so on)
    to the learning rate in force and to the one the script or scheduler asks for; empty if not
    known yet (then only the value itself is checked). Parameter groups keep their ratios.
    """
    if kind not in COMMAND_KINDS:
        return f"unknown command {kind!r}: expected one of {', '.join(COMMAND_KINDS)}"
    if offer is not None and kind in _granted(offer) and ranks_refusal(kind, offer.world):
        return ranks_refusal(kind, offer.world)
    if offer is None or kind not in allowed_kinds(offer):
        return (
            f"this run does not allow {kind}: grant it in the script with "
            f"nanwatch.init(control=nanwatch.Control(...))"
        )
    if kind == "checkpoint" or kind == "stop":
        return None
    if kind == "arm_tracing":
        return _tracing_refusal(args)
    return _lr_refusal(offer, kind, args, lr_now, lr_scheduled)


def _tracing_refusal(args: dict[str, object]) -> str | None:
    steps = args.get("steps", 50)
    whole = (
        isinstance(steps, int | float)
        and not isinstance(steps, bool)
        and steps in range(1, TRACING_ATTEMPTS_MAX + 1)
    )
    if not whole:
        return (
            f"arm_tracing expects a whole number from 1 to {TRACING_ATTEMPTS_MAX} in 'steps', "
            f"got {steps!r}"
        )
    return None


def _lr_refusal(
    offer: ControlOffer,
    kind: str,
    args: dict[str, object],
    lr_now: dict[str, float],
    lr_scheduled: dict[str, float],
) -> str | None:
    name = "lr" if kind == "set_lr" else "factor"
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{kind} expects a number in {name!r}, got {value!r}"
    if not math.isfinite(value) or value <= 0:
        return f"{kind} expects a finite number above 0 in {name!r}, got {value!r}"
    scope = args.get("scope", "")
    if not isinstance(scope, str):
        return f"{kind} expects a name in 'scope', got {scope!r}"
    groups = {k: v for k, v in lr_now.items() if not scope or k.split("#")[0] == scope}
    if scope and lr_now and not groups:
        known = ", ".join(sorted(name for name in lr_now if name)) or "none, this run has only one"
        return f"no optimizer is named {scope!r}: expected one of {known}"
    for group, now in groups.items():
        first = lr_now.get(group.split("#")[0], now)
        ratio = float(value) / first if kind == "set_lr" and first > 0 else float(value)
        wanted = now * ratio
        where = f" of {group}" if group else ""
        if offer.lr and not _inside(wanted, offer.lr):
            low, high = offer.lr
            return f"learning rate{where} would be {wanted:.6g}: the run allows {low:g} to {high:g}"
        scheduled = lr_scheduled.get(group, 0.0)
        if offer.lr_factor and scheduled > 0 and not _inside(wanted / scheduled, offer.lr_factor):
            low, high = offer.lr_factor
            return (
                f"learning rate{where} would be {wanted / scheduled:.6g} times its schedule: "
                f"the run allows {low:g} to {high:g}"
            )
    if kind == "set_lr" and not groups and offer.lr and not _inside(float(value), offer.lr):
        low, high = offer.lr
        return f"learning rate {value:g} is outside what the run allows: {low:g} to {high:g}"
    return None


def _inside(value: float, bounds: tuple[float, float]) -> bool:
    """Within the bounds, up to rounding in the last digits."""
    low, high = bounds
    return low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
