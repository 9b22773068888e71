"""Back-propagation through time, cut short: windows of a sequence, and a rollout's graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from nanwatch.guards.values import (
    ARRAYS,
    above_0,
    changed,
    is_sparse,
    is_tensor,
    kind_of,
    leaves_of,
    left_alone,
)

T = TypeVar("T")


def detach(state: T) -> T:
    """A hidden state (tensor, or dict, list, tuple of them) cut off from its past."""
    return changed(state, lambda leaf: leaf.detach() if hasattr(leaf, "detach") else leaf)


def bptt_windows(sequence: Any, steps: int, dim: int = 1) -> Iterator[Any]:
    """Parts of `steps` time steps of a tensor, an array or a dict, list, tuple of them, in order.

    Back-propagate each part by itself and pass the hidden state on through `detach`. `dim` is the
    dimension of time: 1 where the batch comes first. What has no dimensions at all (None, a plain
    number) is one part, which is said once in the log.
    """
    above_0("bptt_windows(steps=…)", steps, "a whole number")
    leaves = leaves_of(sequence)
    if not leaves or any(map(is_sparse, leaves)):
        left_alone("bptt_windows", ARRAYS, kind_of(sequence))
        return iter([sequence])
    shapes = [tuple(leaf.shape) for leaf in leaves]
    if not all(-len(shape) <= dim < len(shape) for shape in shapes):
        raise ValueError(f"bptt_windows expects shapes with a dimension {dim}; got {shapes[:8]}")
    lengths = {shape[dim] for shape in shapes}
    if len(lengths) != 1:
        raise ValueError(f"expected one length in dimension {dim}; got {sorted(lengths)}")
    return _windows(sequence, steps, dim, *lengths)


def _windows(sequence: Any, steps: int, dim: int, length: int) -> Iterator[Any]:
    for start in range(0, length, steps):
        size = min(steps, length - start)
        yield changed(sequence, lambda leaf, at=start, size=size: _part(leaf, dim, at, size))


def _part(leaf: Any, dim: int, start: int, size: int) -> Any:
    if is_tensor(leaf):
        return leaf.narrow(dim, start, size)
    return leaf[(slice(None),) * (dim % leaf.ndim) + (slice(start, start + size),)]


class TruncatedBPTT:
    """Cuts the graph of a rollout every `steps` calls: `state = cut(model(state))`."""

    def __init__(self, steps: int) -> None:
        above_0("TruncatedBPTT", steps, "a whole number")
        self.steps = steps
        self.calls = 0
        self.cuts = 0
        """How often it cut so far."""

    def __call__(self, state: T) -> T:
        """The state, cut off from its past in every `steps`-th call."""
        self.calls += 1
        if self.calls % self.steps:
            return state
        self.cuts += 1
        return detach(state)

    def reset(self) -> None:
        """A new sequence begins."""
        self.calls = 0
