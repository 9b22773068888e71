"""Codec and pyramid: nothing is lost on any level, whatever the values are."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanwatch_server.store.buckets import COLUMNS, bucketed
from nanwatch_server.store.codec import (
    CodecError,
    narrowed,
    pack,
    pack_axis,
    pack_values,
    unpack,
    unpack_axis,
    unpack_values,
)
from nanwatch_server.store.pyramid import (
    merged,
    pack_summary,
    summary_of,
    unpack_summary,
    width_of,
)

PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0x7FF800000000BEEF))[0]
ODD = [np.nan, PAYLOAD, -np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, -5e-324, 1e308, -1e308, 0.1]


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.uint64).tolist()


numbers = st.floats(width=64) | st.sampled_from(ODD)
steps = st.lists(st.integers(0, 2**53), min_size=1, max_size=200).map(sorted)


@settings(deadline=None, max_examples=200)
@given(st.lists(numbers, max_size=300))
def test_values_come_back_bit_for_bit(values: list[float]) -> None:
    column = np.array(values, np.float64)
    assert bits(unpack_values(pack_values(column))) == bits(column)


def test_float32_is_kept_as_float32_and_only_if_exact() -> None:
    rng = np.random.default_rng(0)
    column = np.cumsum(rng.normal(size=4096)).astype(np.float32).astype(np.float64)
    column[[7, 9, 11]] = np.nan, np.inf, -0.0
    assert narrowed(column).dtype == np.float32
    assert len(pack_values(column)) < 3.2 * len(column)
    assert bits(unpack_values(pack_values(column))) == bits(column)
    column[5] = 0.1
    assert narrowed(column).dtype == np.float64
    assert bits(unpack_values(pack_values(column))) == bits(column)


@settings(deadline=None)
@given(steps, st.floats(0, 4e9))
def test_steps_are_exact_and_times_are_milliseconds(axis: list[int], start: float) -> None:
    column = np.array(axis, np.int64)
    times = start + np.arange(len(column)) * 0.0123
    back, seconds = unpack_axis(pack_axis(column, times))
    assert back.tolist() == axis
    assert np.abs(seconds - times).max() <= 0.000501


@pytest.mark.parametrize("cut", [1, 4, 5, 20, -1])
@pytest.mark.parametrize("line", [True, False], ids=["line", "coded"])
def test_a_damaged_block_is_an_error_of_ours(line: bool, cut: int) -> None:
    steps = np.arange(1000) if line else np.cumsum(np.arange(1000) % 7)
    blob = pack_axis(steps, np.sqrt(steps))
    with pytest.raises(CodecError):
        unpack(blob[:cut])


def test_a_line_of_a_damaged_length_is_an_error_of_ours() -> None:
    blob = bytearray(pack([np.arange(1000)]))
    blob[-4:] = b"\xff" * 4
    with pytest.raises(CodecError, match="at most"):
        unpack(bytes(blob))


ENDS = [-(2**63), -(2**62), -1, 0, 1, 63, 2**53, 2**62, 2**63 - 1]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(ENDS), st.sampled_from(ENDS), st.integers(0, 70), st.booleans())
def test_lines_come_back_whatever_their_ends_are(
    first: int, stride: int, n: int, bent: bool
) -> None:
    with np.errstate(over="ignore"):
        column = np.int64(first) + np.int64(stride) * np.arange(n)
    if bent and n:
        column[-1] ^= 1
    (back,) = unpack(pack([column]))
    assert back.dtype == column.dtype
    assert back.tolist() == column.tolist()


@pytest.mark.parametrize("value", [*ODD, 0.25])
@pytest.mark.parametrize("n", [1, 2, 4096])
def test_a_constant_takes_few_bytes_and_keeps_its_bits(value: float, n: int) -> None:
    column = np.full(n, value)
    blob = pack_values(column)
    assert len(blob) == 25
    assert bits(unpack_values(blob)) == bits(column)
    if n > 2:
        column[n // 2] = 7.0
        assert bits(unpack_values(pack_values(column))) == bits(column)


def same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name in COLUMNS:
        if name == "sum":
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)
        else:
            assert bits(ours[name]) == bits(theirs[name]), name


@settings(deadline=None, max_examples=150)
@given(
    steps=st.lists(st.integers(0, 5000), min_size=1, max_size=400).map(sorted),
    data=st.data(),
    cuts=st.lists(st.integers(0, 400), max_size=5),
    narrow=st.integers(0, 6),
    wider=st.integers(0, 6),
)
def test_merged_buckets_are_those_of_the_points(
    steps: list[int], data: st.DataObject, cuts: list[int], narrow: int, wider: int
) -> None:
    small = st.sampled_from([*ODD[:8], 1.0, 2.0, -3.0])
    values = np.array([data.draw(small) for _ in steps])
    axis = np.array(steps, np.int64)
    times = np.arange(len(steps)) / 8.0
    edges = [0, *sorted(min(cut, len(steps)) for cut in cuts), len(steps)]
    parts = [
        unpack_summary(pack_summary(summary_of(axis[a:b], times[a:b], values[a:b], 1 << narrow)))
        for a, b in itertools.pairwise(edges)
        if b > a
    ]
    width = 1 << (narrow + wider)
    same(merged(parts, width), bucketed(axis, times, values, width))


def test_one_spike_and_one_nan_in_ten_million_points_are_seen() -> None:
    n = 10_000_000
    values = np.sin(np.arange(n) / 1e5)
    values[1_234_567], values[7_654_321] = 1e6, np.nan
    axis, times = np.arange(n), np.zeros(n)
    parts = [
        summary_of(axis[i : i + 65_536], times[i : i + 65_536], values[i : i + 65_536], 64)
        for i in range(0, n, 65_536)
    ]
    top = merged([merged(parts, 1024)], 8192)
    assert top["max"].max() == 1e6
    assert top["max_step"][np.nanargmax(top["max"])] == 1_234_567
    assert top["nan"].sum() == 1
    assert top["count"].sum() == n


@pytest.mark.parametrize(
    ("points", "low", "high", "level", "width"),
    [
        (4096, 0, 4095, 0, 64),
        (4096, 0, 4095, 1, 256),
        (4096, 0, 4095, 2, 1024),
        (4096, 0, 40950, 0, 1024),
        (1, 7, 7, 0, 64),
    ],
)
def test_a_bucket_holds_about_64_points(
    points: int, low: int, high: int, level: int, width: int
) -> None:
    assert width_of(points, low, high, level) == width
