"""JSON lines: the canonical form of `nanwatch.contract.lines`, our exports of it, and what others
write (names and texts of their own, steps under other names, bare NaN).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanwatch.contract import lines
from nanwatch.contract.frames import Mark
from nanwatch.contract.kinds import KINDS
from nanwatch.contract.limits import to_name
from nanwatch.contract.names import STAGES
from nanwatch_server.importers import columns
from nanwatch_server.importers.names import Place
from nanwatch_server.importers.source import LineSource, Options

EXPORT = "nanwatch.points/1"
"""`format` in the first line of an export: names are as they are stored, nothing is guessed."""

LINE_CHARS_MAX = 1 << 26
"""A log of ours or not may have tens of thousands of layers in a line."""
_OWN = frozenset({"step", "time", "stage", "scope", "rank"})
Shape = tuple[Any, ...]


def is_export(first: str) -> bool:
    """True if this line begins an export of ours."""
    try:
        found = json.loads(first)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("format") == EXPORT


class JsonLines(LineSource):
    """One run in a file of JSON lines."""

    format = "JSON lines"

    def __init__(self, path: Path, name: str, options: Options, *, exact: bool = False) -> None:
        super().__init__(path, name, options, exact=exact)
        if exact:
            self.format = "nanwatch export (JSON lines)"
        self._shapes: dict[Shape, tuple[int, ...]] = {}
        self._step_name: str | None = None
        self._clock: columns.Clock | None = None
        self._count = 0
        self.end: float | None = None
        """Time until which the run was observed, if the log says it."""

    def _pull(self, *, last: bool) -> Iterator[None]:
        for text in self.lines.lines(last=last):
            self._line(text, self.lines.number)
            yield

    def _line(self, text: str, number: int) -> None:
        if not text.strip():
            return
        try:
            found = _load(text, number)
            if "event" in found and isinstance(found["event"], str):
                self._event(found, number)
            elif self._step_name is None and not isinstance(found.get("step", ""), str):
                self._canonical(found, number)
            else:
                self._foreign(found, number)
        except lines.LineError as error:
            self.problems.bad(str(error))

    # --- events -------------------------------------------------------------------------------

    def _event(self, found: dict[str, Any], number: int) -> None:
        if self.rows.exact and ("format" in found or "mark" in found):
            try:
                self._own_event(found)
            except (ValueError, TypeError, AttributeError, OverflowError) as error:
                raise lines.LineError(number, f"expected a mark of an export: {error}") from None
            return
        event = lines.event_of(found, number)
        if event.event == "config":
            self.config.update(event.data)
        if event.event == "end":
            self.end = event.time
        step = self.rows.step if event.step is None else event.step
        time = self.rows.time_of_mark(event.time)
        what = lines.EVENTS[event.event]
        self.rows.mark(Mark(what=what, step=step, time=time, text=event.text, data=event.data))

    def _own_event(self, found: dict[str, Any]) -> None:
        """What an export says of the run, and its marks, word for word."""
        mark = found.get("mark")
        if isinstance(mark, dict):
            texts = {str(key): str(value) for key, value in mark.get("data", {}).items()}
            self.rows.mark(
                Mark(
                    what=mark.get("what", "note"),
                    step=int(found.get("step", 0)),
                    time=float(found.get("time", 0.0)),
                    text=str(mark.get("text", "")),
                    data=texts,
                )
            )
        elif isinstance(found.get("config"), dict):
            self.config.update({str(k): str(v) for k, v in found["config"].items()})

    # --- points -------------------------------------------------------------------------------

    def _canonical(self, found: dict[str, Any], number: int) -> None:
        step = lines.step_of(found["step"], number)
        time = lines.time_of(found.get("time"), number)
        stage, scope = found.get("stage", "train"), found.get("scope", "")
        rank = found.get("rank", 0)
        names: list[Any] = [stage, scope, rank]
        values: list[float] = []
        for name, value in found.items():
            if name in _OWN or value is None:
                continue
            if type(value) is float or type(value) is int:
                names.append(name)
                values.append(_number(value))
            elif isinstance(value, dict):
                self._layers(name, value, names, values, number)
            elif (one := self._odd(name, value, number)) is not None:
                names.append(name)
                values.append(one)
        shape = tuple(names)
        ids = self._shapes.get(shape)
        if ids is None:
            ids = self._shapes[shape] = self._place(shape, number)
        if not values:
            keys = ", ".join(found)[:80]
            raise lines.LineError(number, f"expected at least one value, got {keys or 'nothing'}")
        if -1 in ids:
            values = [value for one, value in zip(ids, values, strict=True) if one >= 0]
            ids = tuple(one for one in ids if one >= 0)
        self.rows.add(step, time, ids, values, rank)

    def _layers(
        self, name: str, inner: dict[str, Any], names: list, values: list[float], number: int
    ) -> None:
        for layer, value in inner.items():
            one = None if value is None else self._odd(f"{name}.{layer}", value, number)
            if one is not None:
                names.append((name, layer))
                values.append(one)

    def _odd(self, name: str, value: Any, number: int) -> float | None:
        """A value that is no plain number; None for texts and lists, which are left out."""
        try:
            return lines.number_of(value, name, number)
        except lines.LineError:
            if (word := columns.number(value)) is not None:
                return word
            if self.rows.exact or name in KINDS or not isinstance(value, str | list | dict):
                raise  # a kind must be a number
            self.mapper.leave_out(name, "texts, left out")
            return None

    def _place(self, shape: Shape, number: int) -> tuple[int, ...]:
        """Ids of a line's names. Raises `LineError` if stage, scope or rank cannot be meant."""
        stage, scope, rank, *names = shape
        if not isinstance(stage, str) or not isinstance(scope, str):
            raise lines.LineError(
                number, f"expected texts for stage and scope, got {stage!r}, {scope!r}"
            )
        lines.rank_of(rank, number)
        stage = to_name(stage)
        scope = to_name(scope) if scope else ""
        ids: list[int] = []
        guessed: list[str] = []
        for one in names:
            name, layer = one if isinstance(one, tuple) else (one, "")
            kind, owner, leaf = lines.series_key(name, scope, layer)
            foreign = f"{name}/{layer}" if layer else name
            if not scope and stage == "train" and self._asks(kind, owner, name, foreign):
                guessed.append(foreign)
                ids.append(-2)
            else:
                one_id = self.rows.id_of(kind, owner, leaf, stage, rank)
                self.mapper.claim(Place(kind, owner, leaf, stage), name)
                self.rows.is_whole(one_id)
                ids.append(one_id)
        self.mapper.declare(guessed)
        rest = iter(guessed)
        return tuple(self.id_of(next(rest), rank) if one == -2 else one for one in ids)

    def _asks(self, kind: str, owner: str, name: str, foreign: str) -> bool:
        """True for a name that is ours only by chance, or of which a person said something."""
        if self.rows.exact or name == "custom":
            return False
        # No kind, or one whose scope is the word for a stage (`val.loss`).
        stage = bool(owner) and name.partition(".")[0].lower() in STAGES
        return kind == "custom" or stage or self.mapper.is_told(foreign)

    def _foreign(self, found: dict[str, Any], number: int) -> None:
        """A line of somebody else: the step under another name, or none at all."""
        flat = {
            name: value
            for name, cell in _flat(found)
            if (value := columns.number(cell)) is not None
        }
        if self._step_name is None:
            self._step_name = columns.step_name(flat) or ""
            self._clock = self.clock_of(flat)
            times = [name for name in flat if columns.is_second_clock(name)]
            for name in (self._clock.name if self._clock else "", *times):
                if name:
                    self.mapper.leave_out(name, "time")
            if self._step_name:
                self.counts_by(self._step_name)
        step = self._count
        self._count += 1
        if self._step_name:
            said = columns.whole(flat.get(self._step_name, math.nan))
            if said is None:
                raise lines.LineError(number, f"expected a step from 0 in {self._step_name!r}")
            step = said
        time = self._clock.time(flat.get(self._clock.name)) if self._clock else None
        names = [name for name in flat if self.mapper.places.get(name, "") is not None]
        if not names:
            raise lines.LineError(number, "expected at least one number, got none")
        self.mapper.declare(names)
        self.add_named(step, time, names, [flat[name] for name in names])


def _load(text: str, number: int) -> dict[str, Any]:
    """The object of a line, also where its NaN are spelt as no JSON spells them."""
    try:
        return lines.load(text, number, LINE_CHARS_MAX)
    except lines.LineError:
        said = columns.quoted(text) if len(text) <= LINE_CHARS_MAX else text
        if said == text:
            raise
        try:
            return lines.load(said, number, LINE_CHARS_MAX)
        except lines.LineError:
            pass
        raise


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _flat(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
