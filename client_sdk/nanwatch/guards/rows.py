"""Replay buffers: `is_finite` asks of what goes in, `finite_rows` leaves out what is there."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from nanwatch.contract.limits import to_name
from nanwatch.guards.tally import TALLY
from nanwatch.guards.values import (
    ARRAYS,
    NUMBERS,
    changed,
    is_leaf,
    is_sparse,
    kind_of,
    leaves_of,
    left_alone,
)

T = TypeVar("T")


def is_finite(sample: Any) -> bool:
    """True if every number in a tensor, an array, or a dict, list or tuple of them is finite.

    To be asked before a transition goes into a replay buffer. Plain numbers count; anything else
    (None, text) holds no number that is not finite. Waits for the device.
    """
    leaves = leaves_of(sample, numbers=True)
    if not leaves:
        left_alone("is_finite", NUMBERS, kind_of(sample))
    return all(map(_all_finite, leaves))


def _all_finite(leaf: Any) -> bool:
    if not is_leaf(leaf):
        return isinstance(leaf, int) or math.isfinite(leaf)
    if is_sparse(leaf):
        leaf = leaf.coalesce().values() if leaf.is_sparse else leaf.values()
    if getattr(leaf, "is_meta", False):
        return True  # there are no numbers
    return bool(_finite_by_row(leaf.reshape(1, -1)).all())


def finite_rows(batch: T, *, name: str = "finite_rows") -> T:
    """The batch without the rows that hold NaN or Inf in any of its tensors.

    `batch` is a tensor or array, or a dict, list, tuple or named tuple of them, all with the rows
    in their first dimension; anything else in it stays. The same batch is returned if nothing is
    wrong with it, or if it holds no rows to look at (a number, None, sparse tensors), which is
    said once in the log. Waits for the device, because the number of rows that stay depends on
    the data.
    """
    leaves = leaves_of(batch)
    odd = [leaf for leaf in leaves if not _has_rows(leaf)]
    if odd or not leaves:
        left_alone("finite_rows", ARRAYS, kind_of(odd[0] if odd else batch))
        return batch
    sizes = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            "finite_rows expects tensors or arrays that all have the rows in their first "
            f"dimension; got first dimensions {sorted(sizes)}"
        )
    (rows,) = sizes
    if not rows:
        return batch
    keep: Any = None
    for leaf in leaves:
        fine = _finite_by_row(leaf.reshape(leaf.shape[0], -1))
        fine = fine.cpu().numpy() if not hasattr(leaf, "detach") and hasattr(fine, "cpu") else fine
        keep = fine if keep is None else _both(keep, fine)
    dropped = rows - int(keep.sum())
    if not dropped:
        return batch
    TALLY.add(to_name(name), dropped)
    return changed(batch, lambda leaf: leaf[_like(keep, leaf)])


def _has_rows(leaf: Any) -> bool:
    """False for sparse tensors and those without numbers."""
    return not is_sparse(leaf) and not getattr(leaf, "is_meta", False)


def _finite_by_row(rows: Any) -> Any:
    """One truth value a row of a two-dimensional tensor or array."""
    if hasattr(rows, "detach"):
        import torch

        return torch.isfinite(rows.detach()).all(dim=1)
    import numpy

    if rows.dtype.kind not in "fc":
        return numpy.ones(rows.shape[0], bool)
    return numpy.isfinite(rows).all(axis=1)


def _like(keep: Any, leaf: Any) -> Any:
    """The mask as a tensor on the device of a tensor, as an array for an array."""
    if hasattr(leaf, "detach"):
        import torch

        return torch.as_tensor(keep, device=leaf.device)
    return keep.cpu().numpy() if hasattr(keep, "cpu") else keep


def _both(left: Any, right: Any) -> Any:
    return left & _like(right, left)
