"""Which optimizers a backward pass serves, and the loss value of an attempt.

A walk over the autograd graph finds the parameters that a loss reaches; it is done once for each
place in the user's code that calls backward, and again when it turns out to have been wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanwatch.probes import sharded
from nanwatch.probes.tensors import Item, Number, read_all

GRAPH_NODES_MAX = 50_000

SHARED_OUT = 0.0
"""Stands for a divisor: the micro-batches' losses are parts of one, see `frameworks`."""


_PLAIN: tuple[Any, Any, Any] = (None, None, None)


def reached_parameters(roots: Sequence[Any], owner_of: dict[int, int]) -> frozenset[int]:
    """Optimizers that own a parameter which the graph of `roots` reaches.

    `owner_of` maps `id(parameter)` to its optimizer. Stops when all of them are found.
    """
    wanted = set(owner_of.values())
    found: set[int] = set()
    seen: set[Any] = set()
    stack = starts_of(roots)
    while stack and len(seen) < GRAPH_NODES_MAX:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            owner = owner_of.get(id(variable))
            if owner is not None:
                found.add(owner)
                if found == wanted:
                    break
        stack.extend(next_node for next_node, _ in node.next_functions if next_node is not None)
    return frozenset(found)


def starts_of(roots: Sequence[Any]) -> list[Any]:
    """Nodes of the graph that the roots of backward come from."""
    starts = [root.grad_fn if hasattr(root, "grad_fn") else root.node for root in roots]
    return [node for node in starts if node is not None]


def roots_of(tensors: Any) -> list[Any]:
    """The argument of backward as a list; a `GradientEdge` is a tuple, but one root."""
    single = hasattr(tensors, "grad_fn") or hasattr(tensors, "node")
    return [tensors] if single else list(tensors)


def root_values(roots: Sequence[Any], unscaled: dict[int, Any]) -> list[tuple[Any, float]]:
    """(scalar tensor, divisor) of every scalar root of one backward pass.

    `unscaled` maps `id(root)` of a loss that a GradScaler multiplied to the loss before that.
    The divisor is the number that the script divided the loss by, 1 if it did not.
    """
    values: list[tuple[Any, float]] = []
    for root in roots:
        if not hasattr(root, "numel"):
            continue
        ref, original, divisor = unscaled.pop(id(root), _PLAIN) if unscaled else _PLAIN
        if ref is None or ref() is not root:
            original, divisor = root, None
        if original.numel() != 1 or (here := sharded.whole(original)) is None:
            continue
        if divisor is None:
            divisor = divisor_of(original)
        values.append((here, divisor))
    return values


def dtype_of(roots: Sequence[Any], unscaled: dict[int, Any]) -> str:
    """Number format of the first scalar root, before a GradScaler multiplied it: `float32`; empty
    where there is none. To be asked before `root_values`."""
    for root in roots:
        if hasattr(root, "numel") and root.numel() == 1:
            _, original, _ = unscaled.get(id(root), (None, root, None))
            return str(original.dtype).removeprefix("torch.")
    return ""


def read_roots(
    values: Sequence[tuple[Any, float]], shared_out: bool
) -> tuple[tuple[Number, float], ...]:
    """(number, divisor) of what `root_values` gave; nothing is waited for."""
    numbers = read_all([value for value, _ in values])
    here = numbers.get() if numbers.here() else None
    return tuple(
        (
            here[n] if here is not None else Item(numbers, n),
            SHARED_OUT if shared_out else divisor,
        )
        for n, (_, divisor) in enumerate(values)
    )


def divisor_of(root: Any) -> float:
    """The plain number a loss was divided by last (`loss / accumulate`), else 1.

    Must be asked before backward, which frees what the graph saved.
    """
    node = root.grad_fn
    if node is None or type(node).__name__ != "DivBackward0":
        return 1.0
    other = getattr(node, "_saved_other", None)
    if other is None or other.requires_grad or other.numel() != 1 or other.device.type != "cpu":
        return 1.0
    return float(other)


def combine(values: Sequence[float], divisors: Sequence[float]) -> float:
    """Loss of an attempt: mean of its roots; roots divided by their count are summed instead."""
    n = len(values)
    if n > 1 and (all(d == n for d in divisors) or all(d == SHARED_OUT for d in divisors)):
        return sum(values)
    return sum(values) / n
