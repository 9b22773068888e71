"""Arrays to bytes and back, bit for bit, by pcodec. Pure; `compactor` writes with it, `history`
reads.

Values that are exact in float32 are kept as float32 (half the bytes before any coding). Times
are whole milliseconds.
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
_SIZES = struct.Struct("<BI")
"""(index in `_DTYPES`, bytes that follow) before every array."""


class CodecError(ValueError):
    """Bytes are not what `pack` made; the disk has changed them."""


def pack(arrays: Sequence[NDArray]) -> bytes:
    """One-dimensional arrays of f8, f4 or i8 as one blob."""
    parts: list[bytes] = []
    for array in arrays:
        kind = _DTYPES.index(array.dtype)
        data = standalone.simple_compress(np.ascontiguousarray(array), _CONFIG)
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
