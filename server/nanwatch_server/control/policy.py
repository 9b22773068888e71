"""Who may send which command, with which arguments, and for how long it stays good. Pure.

The run's own bounds are checked here only to answer a person at once: the SDK checks them again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from nanwatch.contract.commands import (
    COMMAND_KINDS,
    TRACING_ATTEMPTS_MAX,
    TTL_S,
    ControlOffer,
    refusal,
)
from nanwatch.contract.limits import is_name
from nanwatch_server.domain.models import Command, Principal, Role, Run, role_covers

RefusalCode = Literal["invalid", "forbidden", "not_found", "not_connected", "conflict", "stale"]

REASON_CHARS_MAX = 500
KEY_CHARS_MAX = 200
SEEN_TOLERANCE = 1e-6
"""How far, relatively, the learning rate may be from what the person saw."""

_ARGS: dict[str, tuple[str, ...]] = {
    "set_lr": ("lr", "scope"),
    "scale_lr": ("factor", "scope"),
    "checkpoint": (),
    "stop": ("checkpoint",),
    "arm_tracing": ("steps",),
}
TRACING_ATTEMPTS = 50
"""Attempts that are traced if nobody says how many."""


class Refused(Exception):
    """The command is not taken. `str()` says what was expected, what came, what to do."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code


def clean_args(kind: str, args: Mapping[str, Any]) -> dict[str, float | str | bool]:
    """Arguments in their exact types. `true` is no number and `"1"` is none either."""
    if kind not in COMMAND_KINDS:
        raise Refused(
            "invalid", f"expected a kind of {', '.join(COMMAND_KINDS)}, got {kind[:60]!r}"
        )
    unknown = sorted(set(args) - set(_ARGS[kind]))
    if unknown:
        takes = ", ".join(_ARGS[kind]) or "no arguments"
        raise Refused("invalid", f"{kind} takes {takes}, got {unknown[0][:60]!r}")
    if kind == "checkpoint":
        return {}
    if kind == "stop":
        save = args.get("checkpoint", True)
        if not isinstance(save, bool):
            raise Refused(
                "invalid", f"stop expects true or false in 'checkpoint', got {save!r:.60}"
            )
        return {"checkpoint": save}
    if kind == "arm_tracing":
        return {"steps": _attempts(args.get("steps", TRACING_ATTEMPTS))}
    name = _ARGS[kind][0]
    cleaned: dict[str, float | str | bool] = {name: _positive(kind, name, args.get(name))}
    scope = args.get("scope", "")
    if not isinstance(scope, str) or (scope and not is_name(scope)):
        raise Refused("invalid", f"{kind} expects a name in 'scope', got {scope!r:.60}")
    return {**cleaned, "scope": scope} if scope else cleaned


def _positive(kind: str, name: str, value: Any) -> float:
    if value is None:
        raise Refused("invalid", f"{kind} expects a number in {name!r}, got none")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("invalid", f"{kind} expects a number in {name!r}, got {value!r:.60}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise Refused(
            "invalid", f"{kind} expects a finite number above 0 in {name!r}, got {number!r}"
        )
    return number


def _attempts(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(
            "invalid", f"arm_tracing expects a whole number in 'steps', got {value!r:.60}"
        )
    if not 1 <= value <= TRACING_ATTEMPTS_MAX:
        raise Refused(
            "invalid",
            f"arm_tracing expects 1 to {TRACING_ATTEMPTS_MAX} attempts in 'steps', "
            f"got {value!r:.60}",
        )
    return value


def role_needed(kind: str, args: Mapping[str, Any], lr_now: Mapping[str, float]) -> Role:
    """`respond` for what can only calm or watch a run, `control` for the rest."""
    if kind in ("checkpoint", "arm_tracing"):
        return "respond"
    if kind == "scale_lr":
        return "respond" if args["factor"] <= 1 else "control"
    if kind == "set_lr":
        now = addressed(args, lr_now)
        lowers = bool(now) and all(args["lr"] <= value for value in now)
        return "respond" if lowers else "control"
    return "control"


def check(
    principal: Principal,
    run: Run,
    kind: str,
    args: dict[str, Any],
    lr: tuple[dict[str, float], dict[str, float]],
) -> None:
    """Raise `Refused` if this person may not send it or the run does not allow it."""
    lr_now, lr_scheduled = lr
    needed = role_needed(kind, args, lr_now)
    if not role_covers(principal.role, needed):
        doing = f"raising the learning rate by {kind}" if kind.endswith("_lr") else kind
        raise Refused("forbidden", f"{doing} needs role {needed}, this is role {principal.role}")
    offer = None if run.control is None else msgspec.convert(run.control, ControlOffer)
    why = refusal(offer, kind, args, lr_now, lr_scheduled)
    if why is not None:
        raise Refused("invalid", why)


def check_seen(if_lr: str, args: Mapping[str, Any], lr_now: Mapping[str, float]) -> None:
    """Raise `Refused` if the learning rate in force is not the one the person saw."""
    if not if_lr:
        return
    try:
        seen = float(if_lr)
    except ValueError:
        seen = math.nan
    if not math.isfinite(seen) or seen <= 0:
        raise Refused("invalid", f"expected a learning rate as text in 'if_lr', got {if_lr!r:.60}")
    now = addressed(args, lr_now)
    if not now or any(abs(value - seen) > SEEN_TOLERANCE * seen for value in now):
        shown = ", ".join(f"{value:.6g}" for value in now) or "not known"
        raise Refused(
            "stale",
            f"expected the learning rate you saw, {seen:.6g}; it is {shown} by now: look again",
        )


def addressed(args: Mapping[str, Any], lr_now: Mapping[str, float]) -> list[float]:
    """Learning rates of the scopes that an LR command is for.

    Groups follow the first of their scope, so only the first ones are compared.
    """
    scope = args.get("scope", "")
    return [v for k, v in lr_now.items() if "#" not in k and (not scope or k == scope)]


def check_texts(key: str, reason: str) -> None:
    """Raise `Refused` for a missing or unfit idempotency key or reason."""
    if not key or len(key) > KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
        raise Refused(
            "invalid",
            f"expected a header Idempotency-Key of 1 to {KEY_CHARS_MAX} printable characters",
        )
    if len(reason) > REASON_CHARS_MAX:
        raise Refused("invalid", f"expected a reason of at most {REASON_CHARS_MAX} characters")


def ttl_s(kind: str, median_step_s: float | None) -> float:
    """Seconds a command stays good."""
    slow = 3 * median_step_s if median_step_s is not None and median_step_s > 0 else 0.0
    return max(TTL_S[kind], slow if math.isfinite(slow) else 0.0)


def knob(command: Command) -> tuple[str, str]:
    """What the command turns: one command in flight for each."""
    if command.kind in ("set_lr", "scale_lr"):
        return "lr", str(command.args.get("scope", ""))
    return command.kind, ""


def overlaps(new: tuple[str, str], old: tuple[str, str]) -> bool:
    """True if both turn the same thing; the empty scope means all optimizers."""
    return new[0] == old[0] and (new[1] == old[1] or not new[1] or not old[1])


def supersedes(new: tuple[str, str], old: tuple[str, str]) -> bool:
    """True if a newer command makes the older one pointless: LR of the same scope or of all."""
    return new[0] == old[0] == "lr" and new[1] in ("", old[1])


def same_request(stored: Command, asked: Command) -> Command:
    """The stored command if the same was asked again. Raises `Refused` if the key was misused."""
    if (stored.run_id, stored.kind, stored.args) != (asked.run_id, asked.kind, asked.args):
        raise Refused(
            "conflict", "this Idempotency-Key was used for another command: make a new one"
        )
    return stored
