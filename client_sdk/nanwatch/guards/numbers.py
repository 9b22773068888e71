"""Numbers that are not finite or too large, replaced in what flows (`sanitize`) and in what is kept
(`clamp_`).
"""

from __future__ import annotations

from typing import Any, TypeVar

from nanwatch.contract.limits import to_name
from nanwatch.guards import arrays
from nanwatch.guards.tally import TALLY, add_true
from nanwatch.guards.values import (
    ARRAYS,
    NUMBERS,
    above_0,
    changed,
    is_leaf,
    is_sparse,
    is_tensor,
    kind_of,
    leaves_of,
    left_alone,
)

T = TypeVar("T")


def sanitize(
    tensor: T, limit: float | None = None, *, nan: float = 0.0, name: str = "sanitize"
) -> T:
    """The tensor with NaN replaced by `nan` and everything within ±`limit`.

    `tensor` is a tensor, an array or a number, or a dict, list or tuple of them. Without a limit
    infinities become the largest number of the type. The gradient is zero where a number was
    replaced; an operation before it may still make NaN of that zero (0 × Inf), so cure the
    operation as well. A tensor that is fine keeps its bits. Integers pass unchanged, and so does
    what is none of these (None, text, complex or sparse tensors), which is said once in the log.
    """
    if limit is not None:
        above_0("sanitize(limit=…)", limit)
    if is_tensor(tensor):
        return _sanitize_one(tensor, limit, nan, name)
    found = False

    def change(leaf: Any) -> Any:
        nonlocal found
        found = True
        return _sanitize_one(leaf, limit, nan, name)

    result = changed(tensor, change, numbers=True)
    if not found:
        left_alone("sanitize", NUMBERS, kind_of(tensor))
        return tensor
    return result


def _sanitize_one(value: Any, limit: float | None, nan: float, name: str) -> Any:
    if is_tensor(value):
        if value.is_floating_point() and not is_sparse(value):
            return _sanitize_tensor(value, limit, nan, name)
        if is_sparse(value) or value.is_complex():
            left_alone("sanitize", NUMBERS, kind_of(value))
        return value
    if hasattr(value, "dtype"):
        if value.dtype.kind not in "fiub":
            left_alone("sanitize", NUMBERS, kind_of(value))
        result, count = arrays.sanitized(value, limit, nan)
    else:
        result, count = arrays.sanitized_number(value, limit, nan)
    TALLY.add(to_name(name), count)
    return result


def _sanitize_tensor(tensor: Any, limit: float | None, nan: float, name: str) -> Any:
    import torch

    # A limit beyond the type (float16 under autocast) is one that torch refuses.
    greatest = torch.finfo(tensor.dtype).max
    most = greatest if limit is None else min(float(limit), greatest)
    nan = max(-greatest, min(nan, greatest))
    result = torch.nan_to_num(tensor, nan=nan, posinf=most, neginf=-most)
    if limit is not None:
        result = result.clamp(-most, most) if abs(nan) <= most else _clamped(tensor, result, most)
    add_true(name, lambda: result != tensor)
    return result


def _clamped(tensor: Any, result: Any, most: float) -> Any:
    """Clamped everywhere but where NaN stood: a penalty may lie beyond the limit."""
    import torch

    return torch.where(torch.isnan(tensor), result, result.clamp(-most, most))


def clamp_(parameters: Any, limit: float, *, name: str = "clamp") -> None:
    """Keep every parameter within ±`limit`, in place. NaN stays NaN: clamping cannot cure it.

    `parameters` is a tensor or array, or any number of them in a dict, list, tuple or iterator.
    What cannot be changed in place (numbers, read-only arrays) is left and said once in the log.
    """
    above_0("clamp_(limit=…)", limit)
    tree = parameters
    if not is_leaf(tree) and not isinstance(tree, dict | list | tuple):
        tree = list(tree) if hasattr(tree, "__iter__") else []
    leaves = leaves_of(tree)
    for leaf in leaves:
        if not _clamp_one(leaf, limit, name):
            left_alone("clamp_", ARRAYS, kind_of(leaf))
    if not leaves:
        left_alone("clamp_", ARRAYS, kind_of(parameters))


def _clamp_one(value: Any, limit: float, name: str) -> bool:
    """False if it cannot be changed in place."""
    import torch

    if not is_tensor(value):
        beyond = arrays.clamp_(value, limit)
        TALLY.add(to_name(name), beyond or 0)
        return beyond is not None
    if value.is_complex() or is_sparse(value):
        return False
    if value.dtype is torch.bool:
        return True
    floating = value.is_floating_point()
    info = torch.finfo(value.dtype) if floating else torch.iinfo(value.dtype)
    low, high = arrays.within(limit, info, whole=not floating)
    with torch.no_grad():
        add_true(name, lambda: value.abs() > limit)
        value.clamp_(low, high)
    return True
