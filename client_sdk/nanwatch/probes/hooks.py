"""Puts the observer's eyes into torch, and takes them out again.

Global optimizer hooks, and wrappers around `torch.autograd.backward`, `Optimizer.zero_grad`,
`Optimizer.__init__`, `Module.zero_grad` and `GradScaler`. The user's call always runs exactly
once and its exception passes through untouched; errors of ours go to the guard.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from threading import get_ident
from types import FrameType
from typing import Any

from nanwatch.guard import GUARD, guarded
from nanwatch.probes import frameworks
from nanwatch.probes.clipping import ClippingProbe
from nanwatch.probes.observer import Observer
from nanwatch.probes.registry import Known
from nanwatch.probes.tensors import CAPTURE

STEP_WRAPPER = "wrapper"
"""Name of the function that torch puts around every optimizer's `step` (it calls the hooks)."""


class Hooks:
    """Everything installed into torch by one run."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        observer.settle = self._settle
        self._undo: list[Callable[[], None]] = []
        self._steps: list[tuple[int, int]] = []
        """Optimizer steps that are running: ids of the optimizer and of the frame of torch's step
        wrapper. Not the frame itself: after a step that raised it would keep the model alive."""
        self._step_hooks: list[Any] = []
        self._shielded = False
        self._ending: frameworks.Ending | None = None
        """The framework's loop that was asked to end by `_stop`."""
        self._stop: BaseException | None = None
        self.on_training: Callable[[], None] | None = None
        """Told once of the first step of a training in a forked child, where we are asleep."""
        self._clipping = ClippingProbe(self._on_clip, self._on_value, self._clipping_here)

    def _active(self) -> bool:
        return self._observer.enabled and not CAPTURE.on and self._observer.on_this_thread()

    def _clipping_here(self) -> bool:
        """Clipping alone says nothing about which thread trains."""
        observer = self._observer
        return observer.enabled and observer.thread_id == get_ident() and not CAPTURE.on

    def install(self) -> None:
        """Install everything. A part that this torch does not have is left out."""
        for part in (
            self._install_backward,
            self._install_optimizer,
            self._install_zero_grad,
            self._install_scaler,
            self._install_repair,
            self._clipping.install,
            self._install_capture,
        ):
            guarded("install", part)
        self._observer.probes.call("install")
        self._undo.append(lambda: self._observer.probes.call("remove"))
        self._undo.append(self._clipping.remove)

    def remove(self) -> None:
        """Put torch back as it was."""
        for undo in reversed(self._undo):
            guarded("remove", undo)
        self._undo.clear()
        self._steps.clear()
        guarded("remove", self._observer.scaling.repair)

    def _patch(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        ours = make(original)
        ours.__wrapped__ = original
        ours.__doc__ = original.__doc__
        ours.__name__ = name
        setattr(owner, name, ours)

        def undo() -> None:
            # Someone may have wrapped us since: then leave the chain, ours is asleep anyway.
            if getattr(owner, name, None) is ours:
                setattr(owner, name, original)

        self._undo.append(undo)

    def _woken(self, owner: Any, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        """Tell of the training that begins in a forked child; what to call in place of ours, which
        is the wrapper of the run that began there, if one did."""
        tell, self.on_training = self.on_training, None
        if tell is not None:
            guarded("fork", tell)
        now = getattr(owner, name)
        return now if getattr(now, "__wrapped__", None) is original else original

    def _timed(self, kind: str, call: Callable[..., Any], *args: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*args)
        except Exception as error:
            GUARD.note(kind, error)
            return None
        finally:
            self._observer.overhead.spent(time.perf_counter() - started)

    def _settle(self) -> None:
        """At the close of an attempt: apply commands. The one place that may raise."""
        observer = self._observer
        actions = observer.actions
        if actions is None or not (actions.waiting or self._ending):
            return
        if self._ending and not self._timed("stop", self._ending.goes_on, sys._getframe(1)):
            # The loop that was asked is over, and the script has started another.
            observer.enabled, self._ending = False, None
            stop, self._stop = self._stop, None  # raised it holds on to the frames of the script
            raise stop or KeyboardInterrupt
        stop = self._timed("command", observer.due_stop)
        if stop is None:
            return
        if self._ending is None:
            # A framework ends by its own flag, so that what comes after its loop still runs.
            # Whoever asks a second time wants it over now.
            self._ending = self._timed("stop", frameworks.ask_to_end, sys._getframe(1))
            if self._ending is not None:
                self._stop = stop
                return
        observer.enabled = False
        raise stop

    # --- backward --------------------------------------------------------------------------------

    def _install_backward(self) -> None:
        import torch

        observer = self._observer
        compiling, tensor = torch.compiler.is_compiling, torch.Tensor

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
                if compiling():
                    return original(tensors, *args, **kwargs)
                if not self._active():
                    call = original
                    if self.on_training is not None:
                        call = self._woken(torch.autograd, "backward", original)
                    return call(tensors, *args, **kwargs)
                if type(tensors) is not tensor and hasattr(tensors, "__next__"):
                    tensors = list(tensors)  # can be read only once
                if not self._shielded and "torch._dynamo" in sys.modules:
                    self._timed("install", self._shield_from_dynamo)
                inside = self._inside_step()
                inputs = args[4] if len(args) > 4 else kwargs.get("inputs")
                retained = bool(args[1] if len(args) > 1 else kwargs.get("retain_graph"))
                seen = self._timed(
                    "backward", observer.before_backward, tensors, inside, inputs, retained
                )
                try:
                    result = original(tensors, *args, **kwargs)
                except BaseException:
                    if seen is not None:
                        self._timed("backward", observer.backward_ended, seen)
                    raise
                if seen is not None:
                    before = observer.clock.step
                    self._timed("backward", observer.after_backward, seen, inside)
                    if observer.clock.step != before:
                        self._settle()
                return result

            return backward

        self._patch(torch.autograd, "backward", make)

    # --- optimizers ------------------------------------------------------------------------------

    def _install_optimizer(self) -> None:
        from torch.optim import Optimizer

        self._register_step_hooks(self._before_step, self._after_step)
        self._undo.append(self._remove_step_hooks)
        observer = self._observer

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
                original(optimizer, *args, **kwargs)
                if observer.enabled:
                    self._timed("optimizer", observer.registry.add, optimizer)

            return __init__

        self._patch(Optimizer, "__init__", make)

    def _register_step_hooks(self, before: Any, after: Any) -> None:
        from torch.optim.optimizer import (
            register_optimizer_step_post_hook,
            register_optimizer_step_pre_hook,
        )

        self._remove_step_hooks()
        self._step_hooks = [
            register_optimizer_step_pre_hook(before),
            register_optimizer_step_post_hook(after),
        ]

    def _remove_step_hooks(self) -> None:
        for handle in self._step_hooks:
            handle.remove()
        self._step_hooks = []

    def _shield_from_dynamo(self) -> None:
        """Keep our hooks out of compiled steps: traced into them they would change the kernels.

        Only once the script has loaded Dynamo itself, which takes a second or two.
        """
        import torch

        self._shielded = True
        disable: Any = torch.compiler.disable
        self._register_step_hooks(disable(self._before_step), disable(self._after_step))

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Other arguments for the step if a guard looks at its closure, else None."""
        if not self._active():
            return None
        # A frame that begins a step now is none of those noted: such an id is a leftover.
        caller = id(_caller())
        self._steps = [step for step in self._steps if step[1] != caller]
        inside = self._inside_step()
        self._steps.append((id(optimizer), caller))
        if inside:
            return None
        return self._timed("step", self._observe_before, optimizer, args, kwargs)

    def _observe_before(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        observer = self._observer
        known = observer.registry.add(optimizer)
        guard = observer.skip_guard
        given = None
        if guard is not None:
            given = guard.wrap_closure(known, args, kwargs, lambda: observer.clock.step)
        observer.before_step(known)
        return given

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if CAPTURE.on or not self._observer.on_this_thread():
            return
        if not self._steps:
            self._began_before_us(optimizer)
            return
        if self._steps[-1][0] == id(optimizer):
            self._steps.pop()
        if self._steps or not self._observer.enabled:
            return
        known = self._observer.registry.find(optimizer)
        if known is not None:
            self._timed("step", self._observer.after_step, known)
            self._settle()

    def _began_before_us(self, optimizer: Any) -> None:
        """We were installed during the first step, by what its closure did (`nanwatch run`)."""
        observer = self._observer
        known = observer.registry.find(optimizer)
        if observer.enabled and known is not None and not observer.clock.counts:
            known.by_closure = True
            self._timed("step", observer.after_step, known)
            self._settle()

    def _inside_step(self) -> bool:
        """True while an optimizer's step runs (closures, SAM, Lookahead).

        A step that raised never called its post-hook: its frame is no longer on the stack.
        """
        if not self._steps:
            return False
        running: set[int] = set()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_name == STEP_WRAPPER:
                running.add(id(frame))
            frame = frame.f_back
        self._steps = [step for step in self._steps if step[1] in running]
        return bool(self._steps)

    def _install_repair(self) -> None:
        """A step that raised may have left a scaled rate: put it right before anyone reads it."""
        from torch.optim import Optimizer
        from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

        scaling = self._observer.scaling

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def repaired(owner: Any, *args: Any, **kwargs: Any) -> Any:
                if scaling.dirty:
                    self._timed("repair", scaling.repair)
                return original(owner, *args, **kwargs)

            return repaired

        self._patch(LRScheduler, "step", make)
        self._patch(ReduceLROnPlateau, "step", make)
        self._patch(Optimizer, "state_dict", make)

    def _install_capture(self) -> None:
        """While a CUDA graph is captured we do nothing at all, on any thread."""
        import torch

        def make_begin(original: Callable[..., Any]) -> Callable[..., Any]:
            def capture_begin(graph: Any, *args: Any, **kwargs: Any) -> Any:
                CAPTURE.set(True)
                try:
                    return original(graph, *args, **kwargs)
                except BaseException:
                    CAPTURE.set(False)
                    raise

            return capture_begin

        def make_end(original: Callable[..., Any]) -> Callable[..., Any]:
            def capture_end(graph: Any, *args: Any, **kwargs: Any) -> Any:
                try:
                    return original(graph, *args, **kwargs)
                finally:
                    CAPTURE.set(False)

            return capture_end

        self._patch(torch.cuda.CUDAGraph, "capture_begin", make_begin)
        self._patch(torch.cuda.CUDAGraph, "capture_end", make_end)
        self._undo.append(lambda: CAPTURE.set(False))

    # --- clearing --------------------------------------------------------------------------------

    def _install_zero_grad(self) -> None:
        import torch

        observer = self._observer

        def make_optimizer(original: Callable[..., Any]) -> Callable[..., Any]:
            def zero_grad(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                if self.on_training is not None and not torch.compiler.is_compiling():
                    call = self._woken(torch.optim.Optimizer, "zero_grad", original)
                    return call(optimizer, *args, **kwargs)
                closes = False
                if observer.clock.pending and self._active() and not self._inside_step():
                    known = observer.registry.find(optimizer)
                    closes = known is not None and self._clear([known])
                if observer.on_zero_grad is not None:
                    self._timed("clear", observer.on_zero_grad, optimizer)
                result = original(optimizer, *args, **kwargs)
                if closes:
                    self._settle()
                return result

            return zero_grad

        def make_module(original: Callable[..., Any]) -> Callable[..., Any]:
            def zero_grad(module: Any, *args: Any, **kwargs: Any) -> Any:
                closes = False
                if observer.clock.pending and self._active() and not self._inside_step():
                    closes = self._clear(self._timed("clear", self._owners, module) or [])
                if observer.on_zero_grad is not None:
                    self._timed("clear", observer.on_zero_grad, module)
                result = original(module, *args, **kwargs)
                if closes:
                    self._settle()
                return result

            return zero_grad

        self._patch(torch.optim.Optimizer, "zero_grad", make_optimizer)
        self._patch(torch.nn.Module, "zero_grad", make_module)

    def _clear(self, optimizers: list[Known]) -> bool:
        before = self._observer.clock.step
        self._timed("clear", self._observer.before_clear, optimizers)
        return self._observer.clock.step != before

    def _owners(self, module: Any) -> list[Known]:
        registry = self._observer.registry
        owners = registry.owner_of()
        numbers = {owners[id(p)] for p in module.parameters() if id(p) in owners}
        return [registry.known[number] for number in sorted(numbers)]

    # --- clipping and scaling --------------------------------------------------------------------

    def _on_clip(self, parameters: list[Any], clip: Any) -> None:
        self._timed("clipping", self._observer.clip, parameters, clip)

    def _on_value(self, gradients: list[Any], clip: Any) -> None:
        self._timed("clipping", self._observer.clip_values, gradients, clip)

    def _install_scaler(self) -> None:
        from torch.amp.grad_scaler import GradScaler

        observer = self._observer

        def make_step(original: Callable[..., Any]) -> Callable[..., Any]:
            def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                if not self._active() or not scaler.is_enabled():
                    return original(scaler, optimizer, *args, **kwargs)
                known = self._timed("scaler", observer.registry.add, optimizer)
                if known is None:
                    return original(scaler, optimizer, *args, **kwargs)
                known.scaler = weakref.ref(scaler)
                before = observer.clock.counts.get(known.number, 0)
                result = original(scaler, optimizer, *args, **kwargs)
                if observer.clock.counts.get(known.number, 0) == before:
                    self._timed("scaler", observer.scaler_refused, known)
                    self._settle()
                return result

            return step

        def make_scale(original: Callable[..., Any]) -> Callable[..., Any]:
            def scale(scaler: Any, outputs: Any) -> Any:
                result = original(scaler, outputs)
                if result is not outputs and hasattr(result, "grad_fn") and self._active():
                    self._timed("scaler", observer.scaled, result, outputs)
                return result

            return scale

        self._patch(GradScaler, "step", make_step)
        self._patch(GradScaler, "scale", make_scale)


def _caller() -> FrameType:
    """Frame of torch's step wrapper: the first that is neither ours nor dynamo's."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        ("torch._dynamo", "nanwatch.")
    ):
        frame = frame.f_back
    return frame
