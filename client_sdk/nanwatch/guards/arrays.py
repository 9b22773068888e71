"""Arrays of numpy and plain numbers, repaired as `guards` repairs tensors.

Pure: nothing is counted or said here. Only `guards` calls it.
"""

from __future__ import annotations

import sys
from typing import Any


def sanitized(array: Any, limit: float | None, nan: float) -> tuple[Any, int]:
    """A copy of an array (or scalar of numpy) without NaN and within ±`limit`, and how many
    numbers differ; the array itself where it holds no floats."""
    import numpy

    if array.dtype.kind != "f":
        return array, 0
    greatest = numpy.finfo(array.dtype).max
    most = greatest if limit is None else min(float(limit), greatest)
    result = numpy.array(array, subok=True)
    missing = numpy.isnan(result)
    numpy.clip(result, -most, most, out=result)
    result[missing] = max(-greatest, min(nan, greatest))
    changed = int(numpy.count_nonzero(result != array))
    return (result if isinstance(array, numpy.ndarray) else result[()]), changed


def sanitized_number(value: float, limit: float | None, nan: float) -> tuple[float, int]:
    """The same for a plain number; whole ones are as they are."""
    if isinstance(value, int):
        return value, 0
    most = sys.float_info.max if limit is None else float(limit)
    result = float(nan) if value != value else max(-most, min(value, most))
    return result, int(result != value)


def clamp_(array: Any, limit: float) -> int | None:
    """Keep the numbers of an array within ±`limit`, in place: how many were not. None if it
    cannot be done: read-only, a scalar, not real numbers."""
    import numpy

    kind = array.dtype.kind
    if not isinstance(array, numpy.ndarray) or not array.flags.writeable or kind not in "fiub":
        return None
    if kind == "b":
        return 0
    beyond = int(numpy.count_nonzero(abs(array) > limit))
    info = numpy.finfo(array.dtype) if kind == "f" else numpy.iinfo(array.dtype)
    low, high = within(limit, info, whole=kind != "f")
    numpy.clip(array, low, high, out=array)
    return beyond


def within(limit: float, info: Any, whole: bool) -> tuple[Any, Any]:
    """(least, greatest) number of a type that lies within ±`limit`."""
    low, high = max(-limit, info.min), min(limit, info.max)
    return (int(low), int(high)) if whole else (low, high)
