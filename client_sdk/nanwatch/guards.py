"""Helpers that a script calls to keep bad numbers out: each counts what it changed.

They work with no run started. While a run is watched, what they repaired in an attempt is
recorded as the series `repaired` (layer: the guard's name), so that the page can say that the
training goes on with repaired numbers. Counting never waits for a device, except where it is said.
Inside torch.compile, torch.func, tracing and CUDA graphs the guards work but do not count: there
are no numbers to count yet.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from nanwatch import guard_arrays
from nanwatch.contract.limits import to_name
from nanwatch.guard import GUARD
from nanwatch.guard_values import (
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
from nanwatch.probes.tensors import capturing

logger = logging.getLogger("nanwatch")

T = TypeVar("T")

STREAK_LIMIT = 50
"""Updates held in a row after which `skip_nonfinite` says so aloud (incident 003 held for ever)."""


# --- counting ------------------------------------------------------------------------------------


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


def _add_true(name: str, make: Callable[[], Any]) -> None:
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


# --- numbers -------------------------------------------------------------------------------------


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
        result, count = guard_arrays.sanitized(value, limit, nan)
    else:
        result, count = guard_arrays.sanitized_number(value, limit, nan)
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
    _add_true(name, lambda: result != tensor)
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
        beyond = guard_arrays.clamp_(value, limit)
        TALLY.add(to_name(name), beyond or 0)
        return beyond is not None
    if value.is_complex() or is_sparse(value):
        return False
    if value.dtype is torch.bool:
        return True
    floating = value.is_floating_point()
    info = torch.finfo(value.dtype) if floating else torch.iinfo(value.dtype)
    low, high = guard_arrays.within(limit, info, whole=not floating)
    with torch.no_grad():
        _add_true(name, lambda: value.abs() > limit)
        value.clamp_(low, high)
    return True


# --- replay buffers ------------------------------------------------------------------------------


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


# --- updates -------------------------------------------------------------------------------------


class SkipNonfinite:
    """Made by `skip_nonfinite`. A context manager too: `remove` at its end."""

    def __init__(self, optimizer: Any, streak_limit: int, agree: bool, name: str) -> None:
        self.skipped = 0
        """Updates held so far."""
        self.streak = 0
        """Updates held in a row just now."""
        self._limit = streak_limit
        self._agree = agree
        self._name = to_name(name)
        self._hold: Any = None
        from nanwatch.probes import discovery

        # Those of Accelerate and Lightning only pass calls on and have no hooks of their own.
        while (inner := discovery.wrapped_optimizer(optimizer)) is not None and not hasattr(
            optimizer, "_optimizer_step_pre_hooks"
        ):
            optimizer = inner
        if not hasattr(optimizer, "register_step_pre_hook"):
            raise TypeError(
                "skip_nonfinite expects an optimizer of torch, which has register_step_pre_hook; "
                f"got {type(optimizer).__name__}"
            )
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            self._decide(optimizer)
        except Exception as error:
            GUARD.note("skip_nonfinite", error)

    def _decide(self, optimizer: Any) -> None:
        from nanwatch.control import holding

        self._put_back()
        gradients = holding.gradients_of(optimizer)
        flag = holding.nonfinite_flag(gradients)
        if self._agree:
            flag = _worst_of_all_ranks(flag)
        if flag is None or not bool(flag):
            self.streak = 0
            return
        self.skipped += 1
        self.streak += 1
        TALLY.add(self._name, 1)
        self._hold = holding.Hold(optimizer)
        self._hold.begin()
        if self.streak % self._limit == 0:
            self._say()

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            self._put_back()
        except Exception as error:
            GUARD.note("skip_nonfinite", error)

    def _put_back(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.end()

    def _say(self) -> None:
        text = f"{self._name} held {self.streak} updates in a row: nothing is being learned"
        logger.warning("nanwatch: %s", text)
        from nanwatch.run import current

        current().mark("note", text, held=self.streak)

    def remove(self) -> None:
        """Let every update pass again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> SkipNonfinite:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def skip_nonfinite(
    optimizer: Any,
    *,
    streak_limit: int = STREAK_LIMIT,
    rank_consistent: bool = False,
    name: str = "skip_nonfinite",
) -> SkipNonfinite:
    """Hold every step of `optimizer` whose gradients are not finite, so that it changes nothing.

    Weights, momentum, weight decay and step counts stay as they are; the gradients are there again
    after the step. Costs one wait for the device a step. Steps with a closure (LBFGS) make their
    gradients later than it can look. After `streak_limit` held updates in a row, and every such
    number after it, it warns. `rank_consistent=True` makes all ranks of the default process group
    decide alike by an all-reduce in each step: needed where every rank sees other gradients
    (sharded models), not with DistributedDataParallel.
    """
    above_0("streak_limit", streak_limit, "a whole number")
    return SkipNonfinite(optimizer, streak_limit, rank_consistent, name)


def _worst_of_all_ranks(flag: Any) -> Any:
    import torch
    import torch.distributed as distributed

    if not distributed.is_available() or not distributed.is_initialized():
        return flag
    flag = torch.zeros(()) if flag is None else flag
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return flag


# --- batch normalisation -------------------------------------------------------------------------


class FrozenBatchNorm:
    """Made by `freeze_batchnorm`. A context manager too: `unfreeze` at its end."""

    def __init__(self, model: Any) -> None:
        from torch.nn.modules.batchnorm import _BatchNorm

        if not hasattr(model, "modules"):
            raise TypeError(
                f"freeze_batchnorm expects a module of torch; got {type(model).__name__}"
            )
        found = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._frozen = [(module, module.training) for module in found]
        # A function of this module, so that the model can still be pickled and copied.
        self._handles = [module.register_forward_pre_hook(_stay_frozen) for module in found]
        for module in found:
            module.eval()

    @property
    def count(self) -> int:
        """Layers that were frozen."""
        return len(self._frozen)

    def unfreeze(self) -> None:
        """Let the layers learn their statistics again."""
        for handle in self._handles:
            handle.remove()
        for module, training in self._frozen:
            module.train(training)
        self._handles, self._frozen = [], []

    def __enter__(self) -> FrozenBatchNorm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unfreeze()


def _stay_frozen(module: Any, args: Any) -> None:
    """Undo what `model.train()` did."""
    if module.training:
        module.eval()


def freeze_batchnorm(model: Any) -> FrozenBatchNorm:
    """Normalise with the running statistics as they are now, also after `model.train()`.

    For good, until `unfreeze` of what it returns, or for the length of a `with`. Weights and
    biases of the layers still learn.
    """
    frozen = FrozenBatchNorm(model)
    from nanwatch.run import current

    current().mark("note", f"BatchNorm frozen in {frozen.count} layers")
    return frozen


# --- truncated back-propagation through time -----------------------------------------------------


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


__all__ = [
    "SkipNonfinite",
    "TruncatedBPTT",
    "bptt_windows",
    "clamp_",
    "counts",
    "detach",
    "finite_rows",
    "freeze_batchnorm",
    "is_finite",
    "sanitize",
    "skip_nonfinite",
]
