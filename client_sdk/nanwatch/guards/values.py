"""What the helpers of `guards` take: tensors, arrays of numpy, numbers, and dicts, lists and tuples
of them. What they cannot work on is left as it is and said once in the log. Only `guards` calls it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("nanwatch")

NUMBERS = "tensors, arrays or numbers, alone or in a dict, list, tuple"
ARRAYS = "tensors or arrays, alone or in a dict, list, tuple"

_left: set[tuple[str, str]] = set()
"""(helper, type) of what was left as it is, and said so."""


def left_alone(helper: str, expected: str, got: str) -> None:
    """Say once that a helper could do nothing: a guard does not end a training."""
    import torch

    if torch.compiler.is_compiling() or (helper, got) in _left:
        return
    _left.add((helper, got))
    logger.warning(
        "nanwatch: guards.%s expects %s; got %s, which is left alone (told once)",
        helper,
        expected,
        got,
    )


def kind_of(value: Any) -> str:
    """What the log calls it."""
    name = type(value).__name__
    dtype = getattr(value, "dtype", None)
    layout = getattr(value, "layout", "")
    return f"{name} ({dtype}, {layout})" if layout else f"{name} ({dtype})" if dtype else name


def is_tensor(value: Any) -> bool:
    """True for a tensor of torch, whatever stands for one included."""
    return hasattr(value, "is_floating_point")


def is_sparse(value: Any) -> bool:
    """True for a tensor that keeps only some of its numbers."""
    return is_tensor(value) and (value.is_sparse or value.is_sparse_csr)


def above_0(what: str, number: Any, expected: str = "a number") -> None:
    """Refuse any other argument at the call."""
    try:
        fine = bool(number > 0)
    except (TypeError, ValueError, RuntimeError):
        fine = False
    if not fine:
        raise ValueError(f"{what} expects {expected} above 0; got {number!r}")


def leaves_of(tree: Any, numbers: bool = False) -> list[Any]:
    """Tensors and arrays in dicts, lists and tuples, and plain numbers if asked for."""
    found: list[Any] = []
    changed(tree, found.append, numbers)
    return found


def is_leaf(value: Any) -> bool:
    """True for a tensor, an array, a scalar of numpy."""
    return hasattr(value, "reshape") and hasattr(value, "dtype")


def changed(tree: Any, change: Callable[[Any], Any], numbers: bool = False) -> Any:
    """The same tree with its tensors and arrays (and plain numbers) changed; anything else
    stays."""
    if is_leaf(tree) or (numbers and isinstance(tree, int | float)):
        return change(tree)
    if isinstance(tree, dict):
        copied = copy.copy(tree)  # not every kind of dict can be made of a dict
        for key, value in tree.items():
            copied[key] = changed(value, change, numbers)
        return copied
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(changed(value, change, numbers) for value in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(changed(value, change, numbers) for value in tree)
    return tree
