"""Looks inside a forward pass now and then: activations and attention, layer by layer.

For the length of one call of a root module a torch function mode sees what the module computes;
between two such calls nothing of it exists, so other attempts cost nothing. Layers are named after
the parameters that an activation comes from, as in every other series. Where anything is compiled
no pass is looked at, since Dynamo would compile it anew.
"""

from __future__ import annotations

import sys
import time
import weakref
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.guard import GUARD
from nanwatch.probes import activations, attention
from nanwatch.probes.calls import ATTRIBUTE, Ledger, Listener, Watch
from nanwatch.probes.passes import ScopedCadence
from nanwatch.probes.probe import Columns, Measured, now
from nanwatch.probes.tensors import Numbers, read_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

FIRST_STEP = 8
"""By then a script that compiles anything has done so."""

EVERY_AT_FIRST = 16
"""Attempts between two samples until their cost is known."""

VALUES_MOST = 512
"""Series of one sample."""

SEEN_S = 2e-6
"""What a function of torch costs more while it is seen, on top of what we measure."""

FRAMES_MOST = 8


@dataclass(slots=True)
class Origin:
    """Where a tensor comes from."""

    scope: str
    layer: str
    channels: bool
    """Its units are along dimension 1."""


@dataclass(slots=True)
class Sample:
    """What one forward pass showed."""

    entries: list[tuple[str, str, str]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    numbers: Numbers | None = None
    own_s: float = 0.0
    seen: int = 0


class Sampling(Listener):
    """Puts the mode around a call when it is due, and hands over what it found."""

    name: ClassVar[str] = "activations"
    share: ClassVar[float] = 0.1

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.cadence: ScopedCadence = ScopedCadence(observer.overhead, self.share)
        self._asked: dict[Watch, int] = {}
        self._names: dict[int, tuple[str, str]] = {}
        self._stale = True
        self._ledger: Ledger[Sample] = Ledger()
        self._columns: dict[tuple[tuple[str, str, str], ...], Columns] = {}
        self._why_not = ""
        self._found = False

    def found(self, watches: Sequence[Watch]) -> None:
        """Modules and names are new."""
        trained = [watch.name for watch in watches if watch.owners]
        self.cadence.named(trained)
        for name in trained:
            cadence = self.cadence.of(name)
            if cadence.every == 1:
                cadence.every = EVERY_AT_FIRST
        self._asked.clear()
        self._stale = True

    def wants(self, watch: Watch) -> bool:
        """Everything that is trained."""
        return bool(watch.owners)

    # --- one call --------------------------------------------------------------------------------

    def sampling(self, watch: Watch) -> Any | None:
        """The mode, if this call is to be looked into."""
        import torch

        step = self.observer.clock.step
        if step < FIRST_STEP or self._asked.get(watch) == step or not torch.is_grad_enabled():
            return None
        self._asked[watch] = step
        if not self.cadence.of(watch.name).due():
            return None
        started = time.perf_counter()
        self._why_not = _why_not(watch.ref())
        if self._why_not:
            return None
        if self._stale:
            self._names, self._stale = self._parameter_names(), False
        sample = Sample(own_s=time.perf_counter() - started)
        return _mode()(self._names, sample, lambda: self._finish(watch, sample))

    def _finish(self, watch: Watch, sample: Sample) -> None:
        started = time.perf_counter()
        if sample.values:
            sample.numbers = read_all(sample.values)
            sample.values = []
            self._ledger.note(sample, watch.owners)
            self._found = True
        spent = sample.own_s + time.perf_counter() - started
        self.observer.overhead.spent(spent)
        self.cadence.of(watch.name).spent(spent + sample.seen * SEEN_S)

    def _parameter_names(self) -> dict[int, tuple[str, str]]:
        names: dict[int, tuple[str, str]] = {}
        for known in self.observer.registry.live():
            layout = known.layout
            if layout is None:
                continue
            for position, parameter in enumerate(known.parameters()):
                if position < len(layout.layer_of):
                    layer = layout.layers[layout.layer_of[position]]
                    names[id(parameter)] = (known.scope, layer)
        return names

    # --- the attempt it belongs to ---------------------------------------------------------------

    def after_backward(self, backward: Backward) -> None:
        """It used the sampled pass."""
        self._ledger.after_backward(backward)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Hand over the samples of this attempt."""
        for sample in self._ledger.closed(attempt):
            if sample.numbers is None:
                continue
            key = tuple(sample.entries)
            columns = self._columns.setdefault(key, Columns(key))
            source = f"activations {known.scope}"
            self.observer.recorder.put(
                Measured(attempt.step, now(), columns, sample.numbers, source)
            )
            if len(self._columns) > 64:
                self._columns.clear()

    def coverage(self) -> str:
        """How often, or why not."""
        if self._why_not:
            return f"off: {self._why_not}"
        return self.cadence.text() if self._found else ""


def _why_not(root: Any) -> str:
    """Why a call of this module cannot be looked into; empty if it can."""
    import torch

    frames = sys.modules.get("torch._dynamo.convert_frame")
    if frames is not None and getattr(frames, "FRAME_COUNTER", 0):
        return "torch.compile is in use"
    native: Any = torch._C
    if native._len_torch_dispatch_stack():
        return "a dispatch mode is active"
    fast = (
        torch.nn.MultiheadAttention,
        torch.nn.TransformerEncoderLayer,
        torch.nn.TransformerEncoder,
    )
    for module in root.modules():
        if ATTRIBUTE in module.__dict__ or "_orig_mod" in module._modules:
            return "torch.compile is in use"
        if isinstance(module, torch.jit.ScriptModule):
            return "a part is scripted"
        if isinstance(module, fast) and not module.training:
            return "attention in evaluation mode"  # its fast path would be left
    if any(type(p) is not torch.nn.Parameter for p in root.parameters()):
        return "parameters are sharded or of a kind of their own"
    return ""


# --- the mode ------------------------------------------------------------------------------------


@cache
def _mode() -> type[Any]:
    """The class of the mode; made when torch is there."""
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        """Sees every function of torch that the thread calls, and changes none."""

        def __init__(self, names: dict[int, tuple[str, str]], sample: Sample, done: Any) -> None:
            super().__init__()
            self._eye = Eye(names, sample)
            self._done = done

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            eye = self._eye
            eye.before(func, args, kwargs)
            result = func(*args, **kwargs)
            eye.after(func, args, kwargs, result)
            return result

        def __exit__(self, *exception: Any) -> None:
            super().__exit__(*exception)
            try:
                self._done()
            except Exception as error:
                GUARD.note("probe activations", error)

    return Mode


class Eye:
    """Follows tensors from the layers they come from, and measures what it is there for."""

    def __init__(self, names: dict[int, tuple[str, str]], sample: Sample) -> None:
        import torch
        import torch.nn.functional as F

        self._names = names
        self._sample = sample
        self._origins: dict[int, tuple[weakref.ref[Any], Origin]] = {}
        self._taken: set[tuple[str, str, str]] = set()
        self._activations = activations.functions()
        self._product: Any = F.scaled_dot_product_attention
        self._module: Any = F.multi_head_attention_forward
        self._softmax = (F.softmax, torch.softmax, torch.Tensor.softmax)
        self._convolutions = _convolutions()
        self._tensor = torch.Tensor
        self._blind = False

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        """What only the arguments show, before anything may change them in place."""
        if self._blind or not (
            func is self._product or func is self._module or func in self._softmax
        ):
            return
        self._guarded(self._look_at_attention, func, args, kwargs)

    def after(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """What it gave."""
        self._sample.seen += 1
        if self._blind:
            return
        if type(result) is tuple:
            # Chunks of one projection (queries, keys and values in one).
            origin = self._origin(func, args, kwargs)
            for part in result:
                if type(part) is self._tensor and origin is not None:
                    self._origins[id(part)] = (weakref.ref(part), origin)
            return
        if type(result) is not self._tensor:
            return
        self._guarded(self._look_at_result, func, args, kwargs, result)

    def _guarded(self, call: Any, *arguments: Any) -> None:
        import torch

        native: Any = torch._C
        if native._len_torch_dispatch_stack():
            return  # selective checkpointing counts operations: ours must not be among them
        started = time.perf_counter()
        try:
            with torch.no_grad():
                if torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu"):
                    with (
                        torch.autocast("cuda", enabled=False),
                        torch.autocast("cpu", enabled=False),
                    ):
                        call(*arguments)
                else:
                    call(*arguments)
        except Exception as error:
            self._blind = True
            GUARD.note("probe activations", error)
        self._sample.own_s += time.perf_counter() - started

    # --- origins ---------------------------------------------------------------------------------

    def _origin_of(self, tensor: Any) -> Origin | None:
        found = self._origins.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None

    def _origin(self, func: Any, args: Any, kwargs: Any) -> Origin | None:
        inherited: Origin | None = None
        for argument in (*args, *kwargs.values()) if kwargs else args:
            named = self._names.get(id(argument))
            if named is not None:
                channels = func in self._convolutions or (
                    inherited is not None and inherited.channels and argument.dim() == 1
                )
                return Origin(*named, channels)
            if inherited is None:
                inherited = self._origin_of(argument)
        return inherited

    # --- measuring -------------------------------------------------------------------------------

    def _look_at_result(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        origin = self._origin(func, args, kwargs)
        entry = self._activations.get(func)
        if entry is not None and not _inside_activation(entry[0]):
            share = activations.measured(*entry, result, origin is not None and origin.channels)
            self._add(entry[0], origin, share)
        if origin is not None:
            self._origins[id(result)] = (weakref.ref(result), origin)

    def _look_at_attention(self, func: Any, args: Any, kwargs: Any) -> None:
        if func is self._product:
            value = attention.of_product(*args, **kwargs)
            origin = self._origin_of(args[0] if args else kwargs["query"])
            outer = True
        elif func is self._module:
            named = _signature(func).bind(*args, **kwargs).arguments
            value = attention.of_module(named)
            weight = named["in_proj_weight"]
            weight = named.get("q_proj_weight") if weight is None else weight
            origin, outer = self._origin(None, (weight,), {}), False
        else:
            scores = args[0] if args else kwargs["input"]
            value = attention.of_scores(scores)
            origin, outer = self._origin_of(scores), True
        if origin is not None and outer:
            # `h.0.attn.q_proj` made the queries: the attention is `h.0.attn`.
            parent = origin.layer.rpartition(".")[0] or origin.layer
            origin = Origin(origin.scope, parent, False)
        self._add(attention.KIND, origin, value)

    def _add(self, kind: str, origin: Origin | None, value: Any) -> None:
        if value is None or origin is None or len(self._taken) >= VALUES_MOST:
            return
        entry = (kind, origin.scope, origin.layer)
        if entry in self._taken:
            return  # a layer that is called again: its first call counts
        self._taken.add(entry)
        self._sample.entries.append(entry)
        self._sample.values.append(value)


@cache
def _convolutions() -> frozenset[Any]:
    import torch
    import torch.nn.functional as F

    names = [f"conv{d}d" for d in (1, 2, 3)] + [f"conv_transpose{d}d" for d in (1, 2, 3)]
    norms = (F.batch_norm, F.group_norm, F.instance_norm)
    return frozenset((*(getattr(home, n) for home in (F, torch) for n in names), *norms))


@cache
def _signature(func: Any) -> Any:
    return signature(func)


def _inside_activation(kind: str) -> bool:
    """True for a tanh or a sigmoid that is part of a GELU or SiLU which is written out."""
    if kind != activations.SATURATED:
        return False
    frame = sys._getframe(1)
    for _ in range(FRAMES_MOST):
        if frame is None:
            return False
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("torch.overrides", "torch.nn.functional", "nanwatch.")):
            name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name).lower()
            return any(word in name for word in ("gelu", "silu", "swish", "mish"))
        frame = frame.f_back
    return False
