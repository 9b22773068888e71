"""Canonical JSON lines: one object per step, or one event. The same for `send`, HTTP and importers.

    {"step": 7, "loss": 2.1, "q1.q_mean": "NaN", "grad_norm_layer": {"gru": 4.7}}
    {"event": "config", "config": {"gamma": 0.99}}

Keys are kinds with an optional `scope.` before them; other names are kept as they are. A nested
object holds layers. `step` is needed; `time` (seconds since 1970), `stage`, `scope` and `rank` are
not. Pure.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from nanwatch.contract.kinds import KINDS
from nanwatch.contract.limits import (
    NAME_CHARS_MAX,
    STEP_MAX,
    TABLE_SERIES_MAX,
    is_run_id,
    to_name,
)

LINE_CHARS_MAX = 1 << 18
CONFIG_KEYS_MAX = 500
EVENTS: dict[str, Literal["config", "task", "eval", "fit", "resume", "note"]] = {
    "config": "config",
    "task_start": "task",
    "task_end": "task",
    "eval_start": "eval",
    "eval_end": "eval",
    "fit": "fit",
    "resume": "resume",
    "exception": "note",
    "note": "note",
    "end": "note",
}
"""Events of a line, and the mark that each becomes."""

_NAN_BITS = 0x7FF8000000000000
_SIGN = 1 << 63


def _of_bits(bits: int) -> float:
    return struct.unpack("<d", bits.to_bytes(8, "little"))[0]


_TEXTS = {
    "NaN": math.nan,
    "-NaN": _of_bits(_NAN_BITS | _SIGN),
    "Infinity": math.inf,
    "+Infinity": math.inf,
    "-Infinity": -math.inf,
}
_PAYLOAD = re.compile(r"NaN\(0x([0-9a-f]{16})\)")
_NAMES = uuid.UUID("6e616e77-6174-6368-8000-6c696e657321")
_OWN = ("step", "time", "stage", "scope", "rank", "event")
_RANK_MAX = 1 << 20


class LineError(ValueError):
    """A line is not canonical; the text says which, what was expected and what came."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number


@dataclass(frozen=True, slots=True)
class Points:
    """Values of one step."""

    step: int
    time: float | None
    stage: str
    values: dict[tuple[str, str, str], float]
    """(kind, scope, layer) → value."""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A mark."""

    event: str
    step: int | None
    time: float | None
    text: str = ""
    data: dict[str, str] = field(default_factory=dict)


def parse(text: str, number: int = 1) -> Points | Event | None:
    """One line; None if it is blank. Raises `LineError`."""
    if not text.strip():
        return None
    found = load(text, number)
    try:
        return _meant(found, number)
    except RecursionError:  # just deep enough to be read and not to be written again
        raise LineError(number, "expected less nesting") from None


def load(text: str, number: int = 1, chars_max: int = LINE_CHARS_MAX) -> dict[str, Any]:
    """The object of a line, whatever it means. Bare NaN and Infinity are read too; raises
    `LineError`."""
    if not _is_whole(text):
        raise LineError(number, f"expected UTF-8, got {_short(ascii(text))}")
    if len(text) > chars_max:
        raise LineError(number, f"expected at most {chars_max} characters, got {len(text)}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = f"expected a JSON object, got {_short(text.strip())}: {error}"
        raise LineError(number, why) from None
    if not isinstance(found, dict):
        raise LineError(number, f"expected a JSON object, got {_short(text.strip())}")
    try:
        if "\\ud" in text.lower() and not _is_whole(json.dumps(found, ensure_ascii=False)):
            raise LineError(number, "expected text of whole characters, got half a surrogate pair")
    except RecursionError:
        raise LineError(number, "expected less nesting") from None
    return found


def _meant(found: dict[str, Any], number: int) -> Points | Event:
    if "event" in found:
        return event_of(found, number)
    time = time_of(found.get("time"), number)
    if "step" not in found:
        raise LineError(number, f'expected a whole number "step", got only {_keys(found)}')
    stage = found.get("stage", "train")
    scope = found.get("scope", "")
    if not isinstance(stage, str) or not isinstance(scope, str):
        raise LineError(number, f"expected texts for stage and scope, got {stage!r}, {scope!r}")
    return Points(
        step=step_of(found["step"], number),
        time=time,
        stage=to_name(stage),
        values=_values(found, to_name(scope) if scope else "", number),
        rank=rank_of(found.get("rank", 0), number),
    )


def event_of(found: dict[str, Any], number: int) -> Event:
    """The mark of an object with `event`. Raises `LineError`."""
    event = found["event"]
    time = time_of(found.get("time"), number)
    if not isinstance(event, str) or event not in EVENTS:
        raise LineError(number, f"expected an event of {', '.join(EVENTS)}; got {event!r}"[:500])
    step = None if found.get("step") is None else step_of(found["step"], number)
    data = flatten({key: value for key, value in found.items() if key not in _OWN})
    if event == "config":
        if not isinstance(found.get("config"), dict):
            raise LineError(number, 'expected {"event":"config","config":{…}}')
        data = flatten(found["config"])
    said = found.get("text", found.get("name", found.get("message", "")))
    text = event if not said else f"{event}: {said}"
    return Event(event=event, step=step, time=time, text=text[:500], data=data)


def _values(found: dict[str, Any], scope: str, number: int) -> dict[tuple[str, str, str], float]:
    values: dict[tuple[str, str, str], float] = {}
    for name, value in found.items():
        if name in _OWN or value is None:
            continue
        if isinstance(value, dict):
            for layer, inner in value.items():
                if inner is not None:
                    key = series_key(name, scope, layer)
                    values[key] = number_of(inner, f"{name}.{layer}", number)
        else:
            values[series_key(name, scope)] = number_of(value, name, number)
    if not values:
        raise LineError(number, f"expected at least one value beside the step, got {_keys(found)}")
    if len(values) > TABLE_SERIES_MAX:
        raise LineError(number, f"expected at most {TABLE_SERIES_MAX} values, got {len(values)}")
    return values


@lru_cache(maxsize=1 << 16)
def series_key(name: str, scope: str = "", layer: str = "") -> tuple[str, str, str]:
    """(kind, scope, layer): `loss`; `q1.q_mean` of scope `q1`; anything else is `custom`."""
    head, dot, last = name.rpartition(".")
    kind = name if name in KINDS else last if dot and last in KINDS else ""
    if not kind:
        return "custom", scope, to_name(f"{name}.{layer}" if layer else name)
    owner = scope if kind == name else to_name(head)
    return kind, owner, to_name(layer) if layer else ""


def number_of(value: Any, name: str, number: int = 1) -> float:
    """A value as a float; true and false count 1 and 0. Raises `LineError`."""
    if isinstance(value, str):
        if value in _TEXTS:
            return _TEXTS[value]
        if found := _PAYLOAD.fullmatch(value):
            said = _of_bits(int(found[1], 16))
            if math.isnan(said):
                return said
    elif isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise LineError(
        number,
        f'expected a number, "NaN", "Infinity" or "-Infinity" for {name[:NAME_CHARS_MAX]}, '
        f"got {_short(value)}",
    )


def special(value: float) -> str:
    """The text of a value that no JSON number can hold, bit for bit; empty if one can.

    `NaN` is the usual one; one with a sign is `-NaN`, any other `NaN(0x…)` with its 64 bits.
    """
    if math.isfinite(value):
        return ""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    bits = int.from_bytes(struct.pack("<d", value), "little")
    if bits & ~_SIGN == _NAN_BITS:
        return "-NaN" if bits & _SIGN else "NaN"
    return f"NaN(0x{bits:016x})"


def rank_of(value: Any, number: int) -> int:
    """The rank of a line. Raises `LineError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _RANK_MAX:
        raise LineError(number, f"expected a rank from 0, got {_short(value)}")
    return value


def step_of(value: Any, number: int) -> int:
    """The step of a line. Raises `LineError`."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value <= STEP_MAX:
        raise LineError(number, f"expected a step from 0 to 2^53 - 1, got {_short(value)}")
    return int(value)


def time_of(value: Any, number: int) -> float | None:
    """The time of a line, if it has one. Raises `LineError`."""
    if value is None:
        return None
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not 0 <= value < 1e12:  # False for NaN, and exact for any whole number
        raise LineError(number, f"expected a time in seconds since 1970, got {_short(value)}")
    return float(value)


def flatten(nested: dict[str, Any]) -> dict[str, str]:
    """`{"optim": {"lr": 0.1}}` as `{"optim.lr": "0.1"}`; values as text."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any, depth: int) -> None:
        if len(flat) >= CONFIG_KEYS_MAX:
            return
        if isinstance(value, dict) and depth < 6:
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), inner, depth + 1)
        elif prefix:
            flat[prefix[:NAME_CHARS_MAX]] = (
                value if isinstance(value, str) else json.dumps(value)
            )[:500]

    visit("", nested, 0)
    return flat


def run_id_of(project: str, run: str) -> str:
    """The id of a run that is known by its name only; an id stays what it is."""
    if is_run_id(run):
        return run
    return uuid.uuid5(_NAMES, f"{to_name(project)}/{to_name(run)}").hex


def epoch_of(key: str) -> int:
    """Each idempotency key is a stream of its own: the server's marks remember it for ever."""
    return max(1, int.from_bytes(hashlib.sha256(key.encode()).digest()[:7]) >> 3)


def _is_whole(text: str) -> bool:
    """False where half a surrogate pair stands in a text, which no file and no socket can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _keys(found: dict[str, Any]) -> str:
    return _short(", ".join(found) or "nothing")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text[:80] + ("…" if len(text) > 80 else "")
