"""Gradients that nobody cleared: a forgotten `zero_grad()` adds every gradient to all before it.

Looks at one small gradient of each optimizer for a while, then now and then. Only attempts that
began with the gradients of the one before are recorded, so a sound loop has no such series.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.probes.probe import Columns, Measured, Probe, now
from nanwatch.probes.tensors import Numbers, read_all

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

FIRST_ATTEMPTS = 48
"""Attempts of an optimizer that are all looked at, ..."""
AGAIN_EVERY, AGAIN_FOR = 256, 16
"""... and how many of how many after them."""
CANDIDATES = 8
"""The smallest gradient of the first parameters is as good as any."""


@dataclass(slots=True)
class _Kept:
    """One optimizer's gradient as its last step left it."""

    parameter: weakref.ref[Any]
    address: int
    version: int
    numbers: Numbers | None = None
    """Its largest absolute value when the next backward pass began; None before there was one."""

    def gradient(self) -> Any:
        """The gradient, if it is still the one that the step left; else None."""
        parameter = self.parameter()
        gradient = parameter.grad if parameter is not None else None
        same = gradient is not None and gradient.data_ptr() == self.address
        return gradient if same else None


class KeptGradients(Probe):
    """Compares the gradient that a step left behind with what the next backward pass finds."""

    name: ClassVar[str] = "kept gradients"
    share: ClassVar[float] = 0.02

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._attempts: dict[int, int] = {}
        """Steps of each optimizer."""
        self._left: dict[int, _Kept] = {}
        self._found: dict[int, Numbers] = {}
        """What the step that runs now was found to have been given of the one before it."""
        self._columns: dict[str, Columns] = {}

    def coverage(self) -> str:
        """Says something only where something was found."""
        return "not cleared" if self._columns else ""

    def before_backward(self, backward: Backward) -> None:
        """Were they cleared by now? Optimizers that this pass does not reach may be cleared too."""
        for number in list(self._left):
            kept = self._left[number]
            gradient = kept.gradient()
            if gradient is None or not self._holds(kept, gradient, number in backward.reached):
                del self._left[number]

    @staticmethod
    def _holds(kept: _Kept, gradient: Any, reached: bool) -> bool:
        """False if it was set to 0, or may have been."""
        if gradient.is_cpu:
            largest = read_all([gradient.detach().abs().amax()])
            if not largest.get()[0]:
                return False
        elif kept.numbers is not None:
            return True
        elif gradient._version != kept.version:
            return False  # written to; to ask for the value would wait for the device
        else:
            largest = read_all([gradient.detach().abs().amax()])
        if reached and kept.numbers is None:
            kept.numbers = largest
        return True

    def before_step(self, known: Known) -> None:
        """Nobody cleared them before this step: all that came before is in it."""
        kept = self._left.pop(known.number, None)
        if kept is not None and kept.numbers is not None and kept.gradient() is not None:
            self._found[known.number] = kept.numbers

    def after_step(self, known: Known) -> None:
        """Remember what is there, to look for it at the next backward pass."""
        count = self._attempts[known.number] = self._attempts.get(known.number, 0) + 1
        if count > FIRST_ATTEMPTS and count % AGAIN_EVERY >= AGAIN_FOR:
            return
        parameter = _smallest(known.first_parameters(CANDIDATES))
        if parameter is not None:
            gradient, ref = parameter.grad, weakref.ref(parameter)
            self._left[known.number] = _Kept(ref, gradient.data_ptr(), gradient._version)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Record what the attempt was given of the one before it."""
        numbers = self._found.pop(known.number, None)
        if numbers is None:
            return
        columns = self._columns.get(known.scope)
        if columns is None:
            columns = self._columns[known.scope] = Columns([("grad_kept", known.scope, "")])
        source = f"{self.name} {known.scope}"
        self.observer.recorder.put(Measured(attempt.step, now(), columns, numbers, source))


def _smallest(parameters: Iterable[Any]) -> Any:
    """The parameter with the smallest dense gradient of its own; None if there is none."""
    import torch

    usable = [
        parameter
        for parameter in parameters
        if type(gradient := parameter.grad) is torch.Tensor
        and gradient.layout is torch.strided
        and gradient.numel()
    ]
    return min(usable, key=lambda parameter: parameter.numel(), default=None)
