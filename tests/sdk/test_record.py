"""Rows become tables: exact, in order, bounded, one bad observation never costs the others."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanwatch.contract.frames import Mark, Table, table_shape
from nanwatch.contract.limits import TABLE_SERIES_MAX
from nanwatch.guard import GUARD, Guard
from nanwatch.record import PENDING_MAX, TABLE_VALUES_MAX, Recorder, Row, series_key, tables

floats = st.floats(allow_nan=True, allow_infinity=True, width=64)


def read(found: list[Table]) -> dict[int, list[tuple[int, bytes]]]:
    """Series → (step, the value's eight bytes) in the order of the tables."""
    points: dict[int, list[tuple[int, bytes]]] = {}
    for table in found:
        k, n = table_shape(table)
        steps = array("q", table.steps)
        for row in range(k):
            for i in range(n):
                start = 8 * (row * n + i)
                value = table.values[start : start + 8]
                points.setdefault(table.ids[row], []).append((steps[i], value))
    return points


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.integers(0, 2**53 - 1),
            st.lists(floats, min_size=1, max_size=4),
        ),
        max_size=60,
    )
)
def test_every_value_arrives_bit_for_bit_and_in_order(
    given_rows: list[tuple[str, int, list[float]]],
) -> None:
    rows = []
    expected: dict[int, list[tuple[int, bytes]]] = {}
    for source, step, values in given_rows:
        offset = 0 if source == "a" else 100
        ids = tuple(offset + n for n in range(len(values)))
        rows.append(Row(step, 0.5, ids, values, source))
        for number, value in zip(ids, values, strict=True):
            expected.setdefault(number, []).append((step, struct.pack("<d", value)))
    assert read(tables(rows)) == expected


def test_equal_rows_share_a_table_and_big_ones_are_split() -> None:
    rows = [Row(n, float(n), (1, 2), [1.0, 2.0], "a") for n in range(100)]
    (table,) = tables(rows)
    assert table_shape(table) == (2, 100)
    mixed = [Row(n, 0.0, (n % 2,), [0.0], str(n % 2)) for n in range(100)]
    assert len(tables(mixed)) == 2, "rows of different sources must not cut each other's tables"
    wide = [Row(1, 0.0, tuple(range(TABLE_SERIES_MAX + 5)), [0.0] * (TABLE_SERIES_MAX + 5))]
    assert [len(t.ids) for t in tables(wide)] == [TABLE_SERIES_MAX, 5]
    many = [Row(n, 0.0, tuple(range(500)), [0.0] * 500) for n in range(200)]
    assert all(len(t.values) <= 8 * (TABLE_VALUES_MAX + 500) for t in tables(many))


class Seen:
    def __init__(self, rows: list[Any], ready: bool = True) -> None:
        self._rows, self._ready = rows, ready

    def ready(self) -> bool:
        return self._ready

    def rows(self, catalog: Any) -> Iterable[Any]:
        if not self._rows:
            raise RuntimeError("a bug of ours")
        return self._rows


def test_a_mark_stays_between_its_neighbours() -> None:
    recorder = Recorder()
    recorder.put(Seen([Row(1, 0.0, (1,), [1.0])]))
    recorder.put(Seen([Mark(what="task", step=1, time=0.0)]))
    recorder.put(Seen([Row(2, 0.0, (1,), [2.0])]))
    assert [type(r).__name__ for r in recorder.drain()] == ["Table", "Mark", "Table"]


def test_what_is_still_on_the_device_holds_back_what_follows() -> None:
    recorder = Recorder()
    slow = Seen([Row(1, 0.0, (1,), [1.0])], ready=False)
    recorder.put(slow)
    recorder.put(Seen([Row(2, 0.0, (1,), [2.0])]))
    assert recorder.drain() == []
    slow._ready = True
    (table,) = recorder.drain()
    assert isinstance(table, Table) and array("q", table.steps).tolist() == [1, 2]


def test_an_error_of_ours_costs_one_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard, "reraise", False)
    recorder = Recorder()
    recorder.put(Seen([]))
    recorder.put(Seen([Row(2, 0.0, (1,), [math.nan])]))
    assert len(recorder.drain()) == 1
    assert recorder.dropped == {"internal error": 1}
    assert GUARD.counts == {"record:RuntimeError": 1}
    GUARD.clear()


def test_the_queue_is_bounded_and_counts_what_it_drops() -> None:
    recorder = Recorder()
    row = Seen([Row(1, 0.0, (1,), [1.0])])
    for _ in range(PENDING_MAX + 10):
        recorder.put(row)
    assert recorder.backlog == PENDING_MAX and recorder.dropped == {"queue full": 10}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("kl", ("kl", "s", "")),
        ("q1.q_mean", ("q_mean", "q1", "")),
        ("agent.policy.entropy", ("entropy", "agent.policy", "")),
        ("accuracy", ("custom", "s", "accuracy")),
        ("val/acc top 5", ("custom", "s", "val/acc_top_5")),
    ],
)
def test_logged_names(name: str, key: tuple[str, str, str]) -> None:
    assert series_key(name, "s") == key
