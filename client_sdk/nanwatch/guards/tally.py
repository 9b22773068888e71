"""How many numbers, rows or updates the guards changed: totals for the script, news for the attempt
that is open. The guards count here; `probes.repaired` takes the news.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nanwatch.contract.limits import to_name
from nanwatch.guard import GUARD
from nanwatch.probes.tensors import capturing


class Tally:
    """Numbers changed, by guard: totals for the script, news for the attempt that is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plain: dict[str, int] = {}
        self._on_device: dict[str, Any] = {}
        self.fresh: dict[str, list[Any]] = {}
        """Counts since someone last took them: whole numbers and zero-dimensional tensors."""
        self.watched = False
        """True while a run takes the news; without one nobody would."""

    def add(self, name: str, count: Any) -> None:
        """Count changes: a whole number, or a tensor that stays on its device."""
        with self._lock:
            if isinstance(count, int):
                self._plain[name] = self._plain.get(name, 0) + count
            else:
                before = self._on_device.get(name)
                same = before is not None and before.device == count.device
                if before is not None and not same:
                    self._plain[name] = self._plain.get(name, 0) + int(before)
                self._on_device[name] = before + count if same else count.clone()
            if self.watched:
                fresh = self.fresh.setdefault(name, [])
                fresh.append(count)
                if len(fresh) > FRESH_MOST:  # an evaluation closes no attempt for a long time
                    fresh[:] = _summed(fresh)

    def take(self) -> dict[str, list[Any]]:
        """What was counted since the last call."""
        with self._lock:
            fresh, self.fresh = self.fresh, {}
        return fresh

    def totals(self) -> dict[str, int]:
        """Everything counted in this process, by guard. Waits for the device."""
        with self._lock:
            found = dict(self._plain)
            for name, count in self._on_device.items():
                found[name] = found.get(name, 0) + int(count)
        return found

    def after_fork(self) -> None:
        """Begin anew in a child: a thread that is gone may hold the lock."""
        self._lock = threading.Lock()


FRESH_MOST = 256
"""Counts of one guard that may wait for the close of an attempt before they are added up."""


def _summed(counts: list[Any]) -> list[Any]:
    """The same in total: one whole number, and one tensor a device."""
    import torch

    by_device: dict[Any, list[Any]] = {}
    for count in counts:
        if not isinstance(count, int):
            by_device.setdefault(count.device, []).append(count)
    with torch.no_grad():
        tensors = [torch.stack(found).sum() for found in by_device.values()]
    return [sum(count for count in counts if isinstance(count, int)), *tensors]


TALLY = Tally()


def add_true(name: str, make: Callable[[], Any]) -> None:
    """Count the true values of the tensor that `make` gives, wherever there are any numbers."""
    import torch

    if torch.compiler.is_compiling():
        return  # a lock and a dict of ours would break the user's graph
    try:
        if not _real_numbers():
            return
        with torch.no_grad():
            hits = make()
            hits = hits.to_local() if hasattr(hits, "to_local") else hits
            count = hits.sum()
        if type(count) is torch.Tensor and not count.is_meta:
            TALLY.add(to_name(name), count)
    except Exception as error:
        GUARD.note("guards count", error)


def _real_numbers() -> bool:
    """False where tensors stand for others: kept beyond such a place, they break later calls."""
    import torch

    internals: Any = torch._C
    if internals._functorch.peek_interpreter_stack() is not None:
        return False  # vmap, grad, functionalisation
    if internals._len_torch_dispatch_stack() or internals._is_tracing():
        return False  # fake tensors, export, torch.jit.trace
    return not capturing()


def counts() -> dict[str, int]:
    """How many numbers (rows, updates) each guard has changed so far. Waits for the device."""
    return TALLY.totals()
