"""Armed tracing: which module's output, and which gradient, is the first that is not finite.

For some attempts `nn.Module.__call__` is replaced by one that looks at what goes in and comes out
(after the user's own hooks), and gradients are looked at where they arrive. Nothing is stored on a
module; numbers stay on their device until one copy at the end of the attempt. Compiled regions
are not looked into. `forensics.probe` arms and closes it on the training thread; gradients of an
accelerator arrive on a thread of autograd. `trace_report` judges.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nanwatch.forensics.names import Names
from nanwatch.forensics.scan import Scan, scan
from nanwatch.guard import GUARD
from nanwatch.probes.tensors import Numbers, capturing, read

SIGHTS_MOST = 20_000
"""Tensors looked at in one attempt; what comes later is counted and left out."""

GRADLESS_CALLS_MOST = 8
"""Calls from outside without gradients (targets, acting) looked at in one attempt."""

LEAVES_MOST = 64
DEPTH_MOST = 5


@dataclass(slots=True, eq=False)
class Call:
    """One call of one module."""

    name: str
    number: int
    """1 for the first call of this module in the attempt."""
    parent: Call | None
    kind: str
    """Class of the module."""
    bare: bool
    """True for a module without parameters, such as a loss."""
    recomputed: bool = False
    """Made again during backward (checkpointing)."""
    ins: list[Sight] = field(default_factory=list)
    outs: list[Sight] = field(default_factory=list)
    last_child: Call | None = None
    autocast: str = ""


@dataclass(slots=True, eq=False)
class Sight:
    """One tensor that was seen: who made it, who took it, and its extremes, once they are here."""

    index: int
    shape: tuple[int, ...]
    dtype: str
    limit: float
    """Largest finite number of its type."""
    made_by: Call | None = None
    seen_in: Call | None = None
    """Module it first came into, if no module made it."""
    used_by: list[Call] = field(default_factory=list)
    recomputed: bool = False


@dataclass(slots=True)
class Trace:
    """Everything seen in one attempt, in the order of seeing."""

    sights: list[Sight] = field(default_factory=list)
    gradients: list[tuple[Sight, int]] = field(default_factory=list)
    """(tensor, index of the extremes of its gradient), in the order of the backward pass."""
    calls: list[Call] = field(default_factory=list)
    scan: Scan | None = None
    left_out: int = 0
    numbers: list[tuple[Numbers, list[int]]] = field(default_factory=list)
    count: int = 0

    def ready(self) -> bool:
        """True if reading does not wait."""
        return all(n.ready() for n, _ in self.numbers) and (self.scan is None or self.scan.ready())

    def extremes(self) -> list[tuple[float, float, bool]]:
        """(least, greatest, has infinities) by index. Background thread."""
        found: list[tuple[float, float, bool]] = [(0.0, 0.0, False)] * self.count
        for numbers, indices in self.numbers:
            values = numbers.get()
            for place, index in enumerate(indices):
                low, high, infinite = values[3 * place : 3 * place + 3]
                found[index] = (low, high, infinite > 0)
        return found


class Tracer:
    """Looks at the calls of all modules while it is armed."""

    def __init__(self) -> None:
        self.left = 0
        """Attempts that are still to be traced."""
        self.in_backward = False
        self.spent_s = 0.0
        self._names = Names()
        self._make_names: Callable[[], Names] = Names
        self._trace = Trace()
        self._stack: list[Call] = []
        self._cache: dict[int, tuple[weakref.ref[Any], int, Sight]] = {}
        self._numbers: dict[int, int] = {}
        self._buckets: dict[tuple[Any, Any], tuple[list[Any], list[int]]] = {}
        self._gradless = 0
        self._thread = 0
        self._original: Any = None
        self._ours: Any = None
        self._lock = threading.Lock()

    @property
    def armed(self) -> bool:
        """True while attempts are traced."""
        return self._ours is not None

    def arm(self, attempts: int, make_names: Callable[[], Names]) -> None:
        """Trace so many attempts from now on."""
        self.left = max(self.left, attempts)
        self._make_names = make_names
        if self._ours is None:
            self._reset()
            self._install()

    def disarm(self) -> None:
        """Take everything out again."""
        import torch

        self.left = 0
        if self._ours is not None and torch.nn.Module.__call__ is self._ours:
            torch.nn.Module.__call__ = self._original  # type: ignore[method-assign]
        self._ours = None
        self._reset()

    def close(self) -> Trace:
        """The attempt is over: what was seen, on its way to the host."""
        import torch

        trace = self._trace
        with torch.no_grad(), self._lock:
            for (_, dtype), (parts, indices) in self._buckets.items():
                flat = torch.stack([part.to(dtype) for part in parts])
                trace.numbers.append((read(flat), indices))
        self._reset()
        self.left -= 1
        if self.left <= 0:
            self.disarm()
        return trace

    def _reset(self) -> None:
        self._trace = Trace()
        self._stack, self._cache, self._numbers = [], {}, {}
        self._buckets, self._gradless = {}, 0
        self._names = Names()
        self.in_backward = False
        self._thread = threading.get_ident()

    # --- calls -----------------------------------------------------------------------------------

    def _install(self) -> None:
        import torch

        tracer, process = self, os.getpid()
        original: Any = torch.nn.Module.__call__
        compiling = torch.compiler.is_compiling

        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling() or tracer._ours is not __call__ or os.getpid() != process:
                return original(module, *args, **kwargs)
            call = tracer._guarded(tracer._enter, module, args, kwargs)
            try:
                result = original(module, *args, **kwargs)
            except BaseException:
                tracer._guarded(tracer._leave, call)
                raise
            tracer._guarded(tracer._leave, call, result)
            return result

        __call__.__wrapped__ = original  # type: ignore[attr-defined]
        self._original, self._ours = original, __call__
        torch.nn.Module.__call__ = __call__  # type: ignore[method-assign]

    def _guarded(self, do: Callable[..., Any], *args: Any) -> Any:
        started = time.perf_counter()
        try:
            return do(*args)
        except Exception as error:
            GUARD.note("tracing", error)
            return None
        finally:
            self.spent_s += time.perf_counter() - started

    def _enter(self, module: Any, args: Any, kwargs: Any) -> Call | None:
        import torch

        if threading.get_ident() != self._thread and not self.in_backward:
            return None
        if len(self._trace.calls) >= SIGHTS_MOST:
            self._trace.left_out += 1
            return None
        internals: Any = torch._C
        if internals._is_tracing() or capturing():
            return None
        if not self._stack and not self.in_backward:
            if not torch.is_grad_enabled():
                self._gradless += 1
                if self._gradless > GRADLESS_CALLS_MOST:
                    return None
            elif self._trace.scan is None:
                self._names = self._make_names()
                self._trace.scan = scan(self._names)
                self._names.parameters, self._names.buffers = [], []
        elif not self._stack and self._gradless > GRADLESS_CALLS_MOST:
            return None
        number = self._numbers[id(module)] = self._numbers.get(id(module), 0) + 1
        call = Call(
            name=self._names.modules.get(id(module), type(module).__name__.lower()),
            number=number,
            parent=self._stack[-1] if self._stack else None,
            kind=type(module).__name__,
            bare=next(iter(module.parameters()), None) is None,
            recomputed=self.in_backward,
            autocast=_autocast(),
        )
        self._trace.calls.append(call)
        self._stack.append(call)
        for tensor in _tensors((args, kwargs)):
            sight = self._see(tensor)
            if sight is not None:
                call.ins.append(sight)
                if sight.made_by is None and sight.seen_in is None:
                    sight.seen_in = call
                sight.used_by.append(call)
        return call

    def _leave(self, call: Call | None, result: Any = None) -> None:
        if call is None or call not in self._stack:
            return
        while self._stack.pop() is not call:
            pass
        for tensor in _tensors(result):
            sight = self._see(tensor)
            if sight is not None:
                call.outs.append(sight)
                if sight.made_by is None and sight.seen_in is None:
                    sight.made_by = call
        if call.parent is not None:
            call.parent.last_child = call

    # --- tensors ---------------------------------------------------------------------------------

    def _see(self, tensor: Any) -> Sight | None:
        """The sight of a tensor, noted when it is new or was changed in place since."""
        if not _plain(tensor):
            return None
        version = -1 if tensor.is_inference() else tensor._version
        found = self._cache.get(id(tensor))
        if found is not None and found[0]() is tensor and found[1] == version:
            return found[2]
        if len(self._trace.sights) >= SIGHTS_MOST:
            self._trace.left_out += 1
            return None
        index = self._extremes(tensor.detach())
        if index is None:
            return None
        import torch

        dtype = tensor.dtype
        limit = torch.finfo(dtype).max
        shape = tuple(tensor.shape)
        name = str(dtype).removeprefix("torch.")
        sight = Sight(index, shape, name, limit, recomputed=self.in_backward)
        self._trace.sights.append(sight)
        self._cache[id(tensor)] = (weakref.ref(tensor), version, sight)
        if tensor.requires_grad and tensor.grad_fn is not None:
            self._watch_gradient(tensor, sight)
        return sight

    def _extremes(self, tensor: Any) -> int | None:
        import torch

        with torch.no_grad(), self._lock:
            part = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            if part.is_complex():
                part = torch.view_as_real(part)
            if part.numel() == 0:
                return None
            low, high = torch.aminmax(part)
            index = self._trace.count
            self._trace.count += 1
            key = (part.device, torch.float64 if part.dtype is torch.float64 else torch.float32)
            parts, indices = self._buckets.setdefault(key, ([], []))
            parts += [low, high, torch.isinf(part).any()]
            indices.append(index)
            return index

    def _watch_gradient(self, tensor: Any, sight: Sight) -> None:
        trace, place = self._trace, tensor.output_nr

        def arrived(gradients: Any) -> None:
            if self._trace is not trace or gradients[place] is None:
                return
            self._guarded(self._gradient, sight, gradients[place])

        tensor.grad_fn.register_prehook(arrived)

    def _gradient(self, sight: Sight, gradient: Any) -> None:
        if not _plain(gradient) or len(self._trace.gradients) >= SIGHTS_MOST:
            return
        index = self._extremes(gradient.detach())
        if index is not None:
            self._trace.gradients.append((sight, index))


def _plain(tensor: Any) -> bool:
    """True for a tensor whose numbers can be looked at here and now."""
    import torch

    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and not hasattr(tensor, "to_local"):
        return False  # fake, nested, quantised, of a user's own making
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta:
        return False
    if tensor.layout is not torch.strided or tensor.element_size() < 2:
        return False
    internals: Any = torch._C
    return not internals._functorch.is_functorch_wrapped_tensor(tensor)


def _tensors(value: Any) -> list[Any]:
    """Tensors in arguments or results: tuples, lists, dicts, dataclasses of them."""
    found: list[Any] = []

    def visit(inner: Any, depth: int) -> None:
        if len(found) >= LEAVES_MOST or depth > DEPTH_MOST:
            return
        if hasattr(inner, "is_floating_point"):
            found.append(inner)
        elif isinstance(inner, tuple | list):
            for item in inner:
                visit(item, depth + 1)
        elif isinstance(inner, dict):
            for item in inner.values():
                visit(item, depth + 1)
        elif hasattr(inner, "__dataclass_fields__"):
            for name in inner.__dataclass_fields__:
                visit(getattr(inner, name, None), depth + 1)

    visit(value, 0)
    return found


def _autocast() -> str:
    """Type that autocast would compute in here, empty if it is off."""
    import torch

    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return ""
