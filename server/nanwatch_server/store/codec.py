"""Arrays to bytes and back, bit for bit, by pcodec. Pure; `compactor` writes with it, `history`
reads.

Values that are exact in float32 are kept as float32 (half the bytes before any coding). Times
are whole milliseconds. Arrays that are a line (steps one by one, a constant) are kept as its ends:
they are most of a summary, and coding them would take the longer part of reading it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone  # pyright: ignore[reportAttributeAccessIssue]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEVEL = 6
"""pcodec's compression level: 8 is its own default and a third slower for one per cent less."""

_CONFIG = ChunkConfig(compression_level=LEVEL)
_DTYPES = (np.dtype("<f8"), np.dtype("<f4"), np.dtype("<i8"))
_LINES = len(_DTYPES)
"""Added to the index of a type where the array is a line."""

_SIZES = struct.Struct("<BI")
"""(index in `_DTYPES`, bytes that follow) before every array."""

_LINE = struct.Struct("<qqI")
"""First number, difference to the next (both modulo 2^64; of floats their bits), how many."""

_LINE_MAX = 1 << 24
"""Longer ones are coded: a damaged length must not ask for all memory there is."""

_BITS = (np.dtype("<i8"), np.dtype("<i4"), np.dtype("<i8"))
"""Whole numbers with the bits of each of `_DTYPES`."""


class CodecError(ValueError):
    """Bytes are not what `pack` made; the disk has changed them."""


def pack(arrays: Sequence[NDArray]) -> bytes:
    """One-dimensional arrays of f8, f4 or i8 as one blob."""
    parts: list[bytes] = []
    for array in arrays:
        array = np.ascontiguousarray(array)
        kind = _DTYPES.index(array.dtype)
        data = _line_of(array.view(_BITS[kind]), constant=kind < 2)
        if data:
            kind += _LINES
        else:
            data = standalone.simple_compress(array, _CONFIG)
        parts += [_SIZES.pack(kind, len(data)), data]
    return b"".join(parts)


def unpack(blob: bytes) -> list[NDArray]:
    """The arrays again. Raises `CodecError`."""
    arrays: list[NDArray] = []
    at = 0
    try:
        while at < len(blob):
            kind, size = _SIZES.unpack_from(blob, at)
            at += _SIZES.size
            if kind >= _LINES:
                arrays.append(_line(blob[at : at + size], kind - _LINES))
                at += size
                continue
            found = standalone.simple_decompress(blob[at : at + size])
            # An empty array leaves nothing from which pcodec could tell its type.
            array = np.empty(0, _DTYPES[kind]) if found is None else np.asarray(found)
            if array.dtype != _DTYPES[kind] or at + size > len(blob):
                raise CodecError(f"expected {_DTYPES[kind]}, got {array.dtype}")
            arrays.append(array)
            at += size
    except (struct.error, RuntimeError, IndexError, TypeError) as error:
        raise CodecError(f"a block cannot be read: {error}") from error
    return arrays


def _line_of(bits: NDArray, constant: bool) -> bytes:
    """The line on which these lie, empty if they do not."""
    n = len(bits)
    if not 0 < n <= _LINE_MAX or (constant and bits[0] != bits[-1]):
        return b""
    stride = int(bits[1]) - int(bits[0]) if n > 1 else 0
    if not -(1 << 62) < stride < 1 << 62 or (constant and stride):
        return b""
    if not (bits[1:] - bits[:-1] == stride).all():
        return b""
    return _LINE.pack(int(bits[0]), stride, n)


def _line(data: bytes, kind: int) -> NDArray:
    first, stride, n = _LINE.unpack(data)
    if kind >= len(_DTYPES) or (stride and kind < 2):
        raise CodecError(f"expected a line of type 0 to 2, got type {kind} and stride {stride}")
    if n > _LINE_MAX:
        raise CodecError(f"expected at most {_LINE_MAX} numbers on a line, got {n}")
    bits = _BITS[kind]
    if stride:
        return first + stride * np.arange(n, dtype=bits)
    return np.full(n, first, bits).view(_DTYPES[kind])


def narrowed(values: F64) -> NDArray:
    """The same numbers as float32 if every bit survives the way there and back."""
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.float32)
        back = small.astype(np.float64)
    same = np.array_equal(back.view(np.uint64), values.view(np.uint64))
    return small if same else values


def pack_values(values: F64) -> bytes:
    """Values of one series."""
    return pack([narrowed(np.ascontiguousarray(values, np.float64))])


def unpack_values(blob: bytes) -> F64:
    """Values of one series, as float64."""
    (values,) = unpack(blob)
    return values.astype(np.float64, copy=False)


def pack_axis(steps: I64, times: F64) -> bytes:
    """Steps and times (seconds, kept as whole milliseconds) that series share."""
    return pack([steps, milliseconds(times)])


def unpack_axis(blob: bytes) -> tuple[I64, F64]:
    """Steps, and times in seconds."""
    steps, times = unpack(blob)
    return steps, times / 1000.0


def milliseconds(times: F64) -> I64:
    """Seconds as whole milliseconds; a time that is no number becomes 0."""
    scaled = np.rint(times * 1000.0)
    if not (np.abs(scaled) <= 2.0**62).all():  # NaN compares false, too
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0), -(2.0**62), 2.0**62)
    return scaled.astype(np.int64)
