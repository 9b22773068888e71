"""Recurrences written by hand: a loop over time steps, a scan, a model fed with its own output.

Their weights are used again and again within one pass, each time behind the last. Seen in the graph
of the loss, at the first passes and then ever more rarely; told as `unrolled`, the number of uses,
for which gradients explode and fade as they do in a recurrent layer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.probes.probe import Probe

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Backward
    from nanwatch.probes.observer import Observer

USES_LEAST = 8
"""Views of an image, parts of a loss and rounds of message passing share weights as well."""
NODES_EACH = 1.5
"""Nodes between one use and the next, where one stands behind the other: a sum over parallel uses
has one."""
SLICES, PARTS = ("Select", "Slice", "Narrow"), ("Unbind", "Split", "Chunk")
"""One time step after the other of what was computed for all of them at once, as in a scan."""
NODES_MOST = 6_000
GREW = 1.5
"""What is told again: rollouts become longer."""


class Unrolled(Probe):
    """Walks the graph at passes 1, 2, 4, 8, … of the run."""

    name: ClassVar[str] = "unrolled"
    share: ClassVar[float] = 0.02

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._passes = 0
        self._told = 0

    def coverage(self) -> str:
        """Nothing: what is seen is told as a fact."""
        return ""

    def before_backward(self, backward: Backward) -> None:
        """Look, if it is time to."""
        self._passes += 1
        if self._passes & (self._passes - 1):
            return
        started = time.perf_counter()
        uses = uses_in_a_row(backward.starts)
        self.cadence.spent(time.perf_counter() - started)
        if uses >= max(USES_LEAST, GREW * self._told):
            self._told = uses
            text = f"the same weights {uses} times in a row"
            self.observer.mark("config", text, {"unrolled": str(uses)})


def uses_in_a_row(starts: Sequence[Any]) -> int:
    """How often the weights that are used most, or slices of one tensor, are used one behind the
    other; 0 if that is not so. Of graphs that are too large the part next to the loss counts."""
    depths = _depths(starts)
    uses: dict[Any, list[int]] = {}
    for node, depth in depths.items():
        if _weight_behind(node) is not None:
            continue  # a view of the weight: who uses it counts
        sliced = type(node).__name__.startswith(SLICES)
        for parent, _ in node.next_functions:
            if parent is None:
                continue
            parts = sliced or type(parent).__name__.startswith(PARTS)
            used = parent if parts else _weight_behind(parent)
            if used is not None:
                uses.setdefault(used, []).append(depth)
    rows = [
        len(found)
        for found in uses.values()
        if max(found) - min(found) >= NODES_EACH * (len(found) - 1)
    ]
    return max(rows, default=0)


def _depths(starts: Sequence[Any]) -> dict[Any, int]:
    """Nodes and the longest way to them from the loss: each time step may have a loss of its own,
    which is near to it whichever step it is."""
    parents_of: dict[Any, list[Any]] = {}
    waits_for: dict[Any, int] = {node: 0 for node in starts if node is not None}
    queue = list(waits_for)
    for node in queue:  # the graph, the nearest first
        if len(parents_of) >= NODES_MOST:
            break
        parents_of[node] = [parent for parent, _ in node.next_functions if parent is not None]
        for parent in parents_of[node]:
            if parent not in waits_for:
                waits_for[parent] = 0
                queue.append(parent)
            waits_for[parent] += 1
    depths: dict[Any, int] = {}
    ready = [(node, 0) for node, count in waits_for.items() if not count]
    reached = dict(ready)
    for node, depth in ready:  # a node once all that use it have been
        depths[node] = depth
        for parent in parents_of.get(node, ()):
            reached[parent] = max(reached.get(parent, 0), depth + 1)
            waits_for[parent] -= 1
            if not waits_for[parent]:
                ready.append((parent, reached[parent]))
    return depths


def _weight_behind(node: Any) -> Any:
    """The weight's own node, if nothing but it and its views (transposed, exp(A_log)) is here."""
    for _ in range(6):
        if hasattr(node, "variable"):
            return node
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if len(parents) != 1:
            return None
        node = parents[0]
    return None
