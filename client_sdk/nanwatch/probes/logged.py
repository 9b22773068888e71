"""`run.log`: from what the user logged to rows.

The training thread only looks whether all values are plain numbers and appends them as they are;
names, series and checks come on the background thread, once for each set of names. Tensors and
arrays change in place, so they are reduced at once, on their device. `run` calls `Intake.log`.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nanwatch.contract.frames import NonFinite, Table
from nanwatch.contract.kinds import MOMENTS
from nanwatch.contract.limits import TABLE_ROWS_MAX, to_name
from nanwatch.probes import sharded
from nanwatch.probes.attempts import AttemptClock
from nanwatch.probes.observations import LAYERS_REPORTED_MAX
from nanwatch.probes.tensors import CAPTURE, Numbers, is_tensor, moments
from nanwatch.record import (
    PENDING_MAX,
    QUEUE_FULL,
    TABLE_VALUES_MAX,
    Catalog,
    Recorder,
    Row,
    row_of,
    series_key,
    surely_finite,
    tables,
    tables_of,
)

NOT_A_NUMBER = "not a number"
CAPTURED = "logged during a CUDA graph capture"

PLAIN: set[type] = {float, int, bool}
"""Types of values that never change and that C code turns into float64. Scalars of numpy are
added when the first one of a type is met: numpy may never be imported."""

LAYOUTS_MAX = 4_096
"""Sets of names that are remembered."""

_Q_NAMES = frozenset({"q", "q_values", "qf", "q_value"})
_REWARD_NAMES = frozenset({"reward", "rewards"})


@dataclass(slots=True, eq=False)
class LogLayout:
    """The series of one set of logged names."""

    ids: tuple[int, ...]
    """One for each value in order, -1 where it is refused."""
    labels: tuple[str, ...]
    """What a non-finite value is called."""
    simple: bool
    """True if every value has a series of its own."""
    most: int
    """Rows of one table."""
    source: str = ""


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls with the same names, one after another."""

    layout: LogLayout
    scope: str
    stage: str
    rows: list[bytes] = field(default_factory=list)
    """Calls as `record.row_of` packs them."""


@dataclass(slots=True)
class Logged:
    """What the user logged in one call, with tensors that are on their way."""

    step: int
    time: float
    scope: str
    stage: str
    values: dict[str, float | Numbers]

    def ready(self) -> bool:
        """True once every number is on the host."""
        return all(not isinstance(v, Numbers) or v.ready() for v in self.values.values())

    def rows(self, catalog: Catalog) -> Iterable[tuple[Any, ...]]:
        """One entry for the intake, with (kind, scope, layer) as names."""
        names: list[tuple[str, str, str]] = []
        values: list[float] = []
        for name, value in self.values.items():
            for kind, scope, layer, number in _named(name, self.scope, value):
                names.append((kind, scope, layer))
                values.append(number)
        return ((self.step, self.time, self.scope, self.stage, tuple(names), values),)


@dataclass(slots=True, eq=False)
class Intake:
    """Takes what is logged. `log` belongs to the user's threads, the rest to the background."""

    recorder: Recorder
    clock: AttemptClock
    loss_at: int = -1
    """Step at which the script last logged its loss."""
    own: set[str] = field(default_factory=set)
    """Kinds that the script logs itself, of those that a probe would measure."""
    _layouts: dict[tuple[Any, ...], LogLayout] = field(default_factory=dict)
    _source_of: dict[int, str] = field(default_factory=dict)
    """Series → source, so that rows with a common series stay in one order."""
    _counts: dict[tuple[str, str], dict[int, tuple[float, int]]] = field(default_factory=dict)
    """(scope, stage) → step → (time, non-finite values logged)."""
    _bad: set[int] = field(default_factory=set)
    """Series whose last value was not finite."""

    def __post_init__(self) -> None:
        self.recorder.reader = self

    # --- the user's threads ----------------------------------------------------------------------

    def log(self, values: dict[str, Any] | None, named: dict[str, Any]) -> None:
        """Hand over numbers and tensors of the present step. `named` is ours to keep."""
        scope, stage = "", "train"
        if "scope" in named:
            scope = to_name(text) if (text := str(named.pop("scope") or "")) else ""
        if "stage" in named:
            stage = to_name(str(named.pop("stage")))
        if values:
            named = {**self._texts(values), **named}
        step = self.clock.step
        if "loss" in named and stage == "train":
            self.loss_at = step
        if "entropy" in named:
            self.own.add("entropy")
        if "kl" in named:
            self.own.add("kl")
        if not PLAIN.issuperset(map(type, named.values())):
            self._reduce(step, scope, stage, named)
        elif len(self.recorder.pending) < PENDING_MAX:  # `Recorder.put` without the call
            self.recorder.pending.append((step, time.time(), scope, stage, named))
        else:
            self.recorder.count_drop(QUEUE_FULL, len(named))

    def _texts(self, values: dict[Any, Any]) -> dict[str, Any]:
        """The same with text as keys."""
        if all(type(name) is str for name in values):
            return values
        found: dict[str, Any] = {}
        for name, value in values.items():
            try:
                found[str(name)] = value
            except Exception:
                self.recorder.count_drop("name is no text")
        return found

    def _reduce(self, step: int, scope: str, stage: str, values: dict[str, Any]) -> None:
        reduced: dict[str, float | Numbers] = {}
        for name, value in values.items():
            number = reduce(value)
            if number is None:
                self.recorder.count_drop(CAPTURED if CAPTURE.on else NOT_A_NUMBER)
                if name == "loss":
                    self.loss_at = -1
            else:
                reduced[name] = number
        if reduced:
            logged = Logged(step, time.time(), scope, stage, reduced)
            self.recorder.put(logged, len(reduced))

    # --- the background thread -------------------------------------------------------------------

    def records(
        self, entries: list[tuple[Any, ...]], catalog: Catalog
    ) -> Iterable[Table | NonFinite]:
        """Tables and reports of many calls. An entry ends with the values by name, or with names
        and values apart."""
        batches: dict[str, _Batch] = {}
        made: list[Table | NonFinite] = []
        batch: Any = None
        key: Any = None
        pack: Any = None
        rows: list[bytes] = []
        room = 0
        for entry in entries:
            if len(entry) == 5:
                step, at, scope, stage, by_name = entry
                names, row = tuple(by_name), by_name.values()
            else:
                step, at, scope, stage, names, row = entry
            # No more Python per call than this: the interpreter belongs to the training thread.
            found = (scope, stage, names)
            if found != key or room <= 0:
                key = found
                batch = self._batch(batches, made, catalog, key)
                room = batch.layout.most - len(batch.rows)
                pack = row_of(len(names)).pack
                rows = batch.rows
            try:
                rows.append(pack(step, at, *row))
            except struct.error:  # a whole number beyond float64
                made.extend(self._close(catalog, batch))
                made.extend(self._row_by_row(catalog, batch, [(step, at, *row)]))
                room = 0
                continue
            room -= 1
        for one in batches.values():
            made.extend(self._close(catalog, one))
        if self._counts:
            made.extend(tables(self._counted(catalog)))
        return made

    def _batch(
        self,
        batches: dict[str, _Batch],
        made: list[Table | NonFinite],
        catalog: Catalog,
        key: tuple[str, str, tuple[Any, ...]],
    ) -> _Batch:
        """The open batch of these names, one for each source; the one before it is closed."""
        layout = self._layouts.get(key) or self._lay_out(catalog, *key)
        batch = batches.get(layout.source)
        if batch is None or batch.layout is not layout or len(batch.rows) >= layout.most:
            if batch is not None:
                made.extend(self._close(catalog, batch))
            batch = batches[layout.source] = _Batch(layout, key[0], key[1])
        return batch

    def _counted(self, catalog: Catalog) -> list[Row]:
        """Non-finite values of each stage, step by step, and the first step without any."""
        counts, self._counts = self._counts, {}
        rows: list[Row] = []
        for (scope, stage), found in counts.items():
            number = catalog.id_of("nonfinite", scope, "logged", stage)
            if number < 0:
                catalog.refused += len(found)
                continue
            source = f"nonfinite {stage} {scope}"
            for step, (at, count) in sorted(found.items()):
                rows.append(Row(step, at, (number,), [float(count)], source))
        return rows

    def _turned_bad(self, batch: _Batch, step: int, at: float, bad: list[int]) -> bool:
        """Count non-finite values of one call; True if an episode begins: all of its series were
        finite when they were logged last. What other calls log does not end it."""
        ids = batch.layout.ids
        before = self._bad.intersection(ids)
        self._bad.difference_update(ids)
        self._bad.update(bad)
        if bad or before:
            counts = self._counts.setdefault((batch.scope, batch.stage), {})
            counts[step] = (at, counts.get(step, (at, 0))[1] + len(bad))
        return bool(bad) and not before

    def _close(self, catalog: Catalog, batch: _Batch) -> Iterable[Table | NonFinite]:
        """Tables of a batch, which is empty then; row by row only if something is out of the
        ordinary."""
        layout, rows = batch.layout, batch.rows
        if not rows:
            return ()
        batch.rows = []
        opened = row_of(len(layout.ids)).unpack
        if layout.simple and surely_finite(rows):
            if self._bad:
                step, at, *_ = opened(rows[0])
                self._turned_bad(batch, step, at, [])
            return tables_of(layout.ids, rows)
        return self._row_by_row(catalog, batch, map(opened, rows))

    def _row_by_row(
        self, catalog: Catalog, batch: _Batch, calls: Iterable[tuple[Any, ...]]
    ) -> Iterable[Table | NonFinite]:
        rows: list[Row] = []
        reports: list[NonFinite] = []
        for step, at, *values in calls:
            ids, kept, bad = self._with_care(catalog, batch.layout, values)
            if ids:
                rows.append(Row(step, at, ids, kept))
            if self._turned_bad(batch, step, at, [number for number, _ in bad]):
                prefix = "" if batch.stage == "train" else f"{batch.stage}/"
                names = [f"{prefix}{label}" for _, label in bad]
                reports.append(_report(step, at, batch.scope, names, len(values)))
        return [*tables(rows), *reports]

    def _with_care(
        self, catalog: Catalog, layout: LogLayout, values: list[float]
    ) -> tuple[tuple[int, ...], list[float], list[tuple[int, str]]]:
        """(series, values, (series, name) of non-finite ones), where something is out of the
        ordinary."""
        row: dict[int, float] = {}
        bad: list[tuple[int, str]] = []
        for number, label, value in zip(layout.ids, layout.labels, values, strict=True):
            try:
                value = float(value)
            except OverflowError:
                self.recorder.count_drop(NOT_A_NUMBER)
                continue
            if not math.isfinite(value):
                bad.append((number, label))
            if number < 0:
                catalog.refused += 1
                continue
            if number in row:  # two names may be one series (`a b`, `a_b`): the later value stands
                self.recorder.count_drop("two names for one series")
            row[number] = value
        return tuple(row), list(row.values()), bad

    def _lay_out(
        self, catalog: Catalog, scope: str, stage: str, names: tuple[Any, ...]
    ) -> LogLayout:
        keys = [(_number_key(name, scope) if isinstance(name, str) else name) for name in names]
        ids = tuple(catalog.id_of(kind, own, layer, stage) for kind, own, layer in keys)
        simple = len(set(ids)) == len(ids) and -1 not in ids
        most = min(TABLE_ROWS_MAX, max(1, TABLE_VALUES_MAX // max(1, len(ids))))
        layout = LogLayout(ids, tuple(layer or kind for kind, _, layer in keys), simple, most)
        layout.source = self._join(ids)
        if len(self._layouts) >= LAYOUTS_MAX:
            self._layouts.clear()
        self._layouts[scope, stage, names] = layout
        return layout

    def _join(self, ids: tuple[int, ...]) -> str:
        """Source of rows with these series: the same for all layouts that share a series."""
        met = {self._source_of[number] for number in ids if number in self._source_of}
        source = min(met) if met else f"log {ids[:1]}"
        others = met - {source}
        if others:
            for number, old in self._source_of.items():
                if old in others:
                    self._source_of[number] = source
            for layout in self._layouts.values():
                if layout.source in others:
                    layout.source = source
        self._source_of.update((number, source) for number in ids if number >= 0)
        return source


def _report(step: int, at: float, scope: str, bad: list[str], total: int) -> NonFinite:
    return NonFinite(
        step=step,
        time=at,
        where="logged",
        scope=scope,
        nan=len(bad),
        total=total,
        layers=[to_name(name) for name in bad[:LAYERS_REPORTED_MAX]],
    )


def _number_key(name: str, scope: str) -> tuple[str, str, str]:
    return series_key("reward" if name in _REWARD_NAMES else name, scope)


def _named(name: str, scope: str, value: float | Numbers) -> Iterable[tuple[str, str, str, float]]:
    """(kind, scope, layer, number) for one logged name; tensors give their moments."""
    if not isinstance(value, Numbers):
        yield (*_number_key(name, scope), value)
        return
    numbers = value.get()
    if len(numbers) != len(MOMENTS):
        return
    mean, _, low, high = numbers
    prefix, _, last = name.rpartition(".")
    scope = to_name(prefix) if prefix else scope
    if last in _Q_NAMES:
        for moment, number in zip(MOMENTS, numbers, strict=True):
            yield f"q_{moment}", scope, "", number
    elif last in _REWARD_NAMES:
        yield "reward", scope, "", mean
        yield "reward_abs_max", scope, "", max(abs(low), abs(high)) if low == low else low
    else:
        kind, scope, layer = series_key(name, scope)
        yield kind, scope, layer, mean
        if kind == "custom":
            for moment, number in zip(MOMENTS[1:], numbers[1:], strict=True):
                yield "custom", scope, f"{layer}_{moment}", number


def reduce(value: Any) -> float | Numbers | None:
    """A logged value as a number or as moments on their way; None if it is neither.

    Called on the training thread: tensors are reduced on their device, nothing is waited for.
    """
    try:
        if isinstance(value, float | int):
            _remember_plain(value)
            return float(value)
        if is_tensor(value):
            return _reduce_tensor(value)
        if hasattr(value, "compressed"):
            value = _unmasked(value)
        if getattr(getattr(value, "dtype", None), "kind", "") == "c":
            return None
        if getattr(value, "ndim", 0) and hasattr(value, "mean"):
            return _reduce_array(value)
        number = float(value)
        _remember_plain(value)
        return number
    except Exception:
        # Anything at all may be logged: what is no number is counted by the caller.
        return None


def _remember_plain(value: Any) -> None:
    """Scalars of numpy never change: the next one of this type goes the quick way."""
    kind = type(value)
    if kind.__module__ == "numpy" and kind.__name__ != "ndarray":
        PLAIN.add(kind)


def _reduce_tensor(value: Any) -> float | Numbers | None:
    value = sharded.whole(value)  # what is spread over ranks would make this one ask the others
    if value is None or value.is_complex() or value.numel() == 0:
        return None
    if CAPTURE.on and value.device.type == "cuda":
        return None  # it has no value yet, and asking for it would become part of the graph
    if value.numel() == 1 and value.device.type == "cpu":
        return float(value.detach().item())  # `float(value)` warns where it needs a gradient
    return moments(value)


def _unmasked(value: Any) -> Any:
    """A masked array of numpy without what is masked; None for a masked element, of which `float`
    makes a warning and NaN."""
    kept = value.compressed()
    return kept if value.ndim else next(iter(kept), None)


def _reduce_array(value: Any) -> Numbers | None:
    import numpy

    if value.size == 0:
        return None
    with numpy.errstate(all="ignore"):  # it warns of the spread of infinities
        return Numbers(
            [float(value.mean()), float(value.std()), float(value.min()), float(value.max())]
        )
