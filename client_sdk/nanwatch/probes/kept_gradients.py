"""Gradients that nobody cleared: a forgotten `zero_grad()` adds every gradient to all before it.

Looks at two small gradients of each optimizer for a while, then now and then. Only attempts that
began with the gradients of the one before are recorded, so a sound loop has no such series.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Sequence
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
"""Two of the first parameters are as good as any."""
ELEMENTS_MOST = 4096
"""Of large gradients the first elements."""


@dataclass(slots=True)
class _Kept:
    """Two of one optimizer's gradients as its last step left them: one alone may be of something
    that is cleared in another way than the rest."""

    left: tuple[tuple[weakref.ref[Any], int, int], ...]
    """(parameter, address of its gradient, its version)."""
    numbers: Numbers | None = None
    """Largest absolute value of the first of them when the next backward pass began; None before
    there was one."""

    def gradients(self) -> list[Any]:
        """Those that are still the ones that the step left; empty unless both are."""
        found = []
        for ref, address, _ in self.left:
            parameter = ref()
            gradient = parameter.grad if parameter is not None else None
            if gradient is None or gradient.data_ptr() != address:
                return []
            found.append(gradient)
        return found

    def written(self, gradients: Sequence[Any]) -> bool:
        """True if one of them was written to since."""
        return any(
            gradient._version != version
            for gradient, (_, _, version) in zip(gradients, self.left, strict=True)
        )


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
            gradients = kept.gradients()
            if not gradients or not self._hold(kept, gradients, number in backward.reached):
                del self._left[number]

    def _hold(self, kept: _Kept, gradients: list[Any], reached: bool) -> bool:
        """False if they were set to 0, or may have been."""
        started = time.perf_counter()
        if not self.waits_for_nothing(gradients[0]) and (
            kept.numbers is not None or kept.written(gradients)
        ):
            return False  # a pass or a clearing wrote to it: to ask for the value would wait
        largest = [_largest(gradient) for gradient in gradients]
        if self.waits_for_nothing(gradients[0]) and not all(one.item() for one in largest):
            return False
        if reached and kept.numbers is None:
            kept.numbers = read_all(largest[:1])
        self.cadence.spent(time.perf_counter() - started)
        return True

    @staticmethod
    def waits_for_nothing(gradient: Any) -> bool:
        """True where the value of a gradient is at hand."""
        return bool(gradient.is_cpu)

    def before_step(self, known: Known) -> None:
        """Nobody cleared them before this step: all that came before is in it."""
        kept = self._left.pop(known.number, None)
        if kept is not None and kept.numbers is not None and kept.gradients():
            self._found[known.number] = kept.numbers

    def after_step(self, known: Known) -> None:
        """Remember what is there, to look for it at the next backward pass."""
        count = self._attempts[known.number] = self._attempts.get(known.number, 0) + 1
        if count > FIRST_ATTEMPTS and count % AGAIN_EVERY >= AGAIN_FOR:
            return
        left = tuple(
            (weakref.ref(parameter), parameter.grad.data_ptr(), parameter.grad._version)
            for parameter in _two_of(known.first_parameters(CANDIDATES))
        )
        if left:
            self._left[known.number] = _Kept(left)

    def gone(self, known: Known) -> None:
        """That optimizer is gone."""
        self._attempts.pop(known.number, None)
        self._left.pop(known.number, None)
        self._found.pop(known.number, None)

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


def _two_of(parameters: Iterable[Any]) -> list[Any]:
    """The two smallest of those with a dense gradient of their own."""
    import torch

    usable = [
        parameter
        for parameter in parameters
        if type(gradient := parameter.grad) is torch.Tensor
        and gradient.layout is torch.strided
        and gradient.numel()
        and gradient.is_contiguous()
    ]
    return sorted(usable, key=lambda parameter: parameter.numel())[:2]


def _largest(gradient: Any) -> Any:
    """Largest absolute value of the first elements, zero-dimensional: no copy of large ones."""
    return gradient.detach().reshape(-1)[:ELEMENTS_MOST].abs().amax()
