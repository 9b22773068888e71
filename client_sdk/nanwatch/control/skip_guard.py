"""`guard="skip"`: an update whose gradients are not finite is held, so that it changes nothing.

Called by the observer around the outermost step, on the training thread. On the CPU the decision
is a look at norms that are there anyway; a fused optimizer on an accelerator decides on the device
(`found_inf`, no wait); any other one there costs one scalar sync a step, counted in the overhead.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanwatch.control.holding import Hold, gradients_of, nonfinite_flag
from nanwatch.guard import GUARD
from nanwatch.probes import sharded
from nanwatch.probes.registry import Known
from nanwatch.probes.tensors import capturing

logger = logging.getLogger("nanwatch")

CHECKPOINTS_MOST = 3
"""Emergency checkpoints of one run: one at the first held update of an episode."""

SPREAD = (
    "the gradients are spread over the ranks, which would have to agree in each step; "
    "guards.skip_nonfinite(optimizer, rank_consistent=True) does, if every rank calls it"
)
"""Why nothing is held where weights are sharded."""

CLOSURE_ONLY = ("LBFGS",)
"""Optimizers that evaluate their closure many times a step: nothing can be held there."""


class SkipGuard:
    """Holds poisoned updates of every optimizer of this run."""

    def __init__(self, checkpoint: Callable[[int], Path | None] | None = None) -> None:
        self.checkpoint = checkpoint
        """Saves modules and optimizers at a step; None where it failed or is not wanted."""
        self.saved: list[Path] = []
        self.waits_least = True
        """Decide on the device where the optimizer can; tests switch the device's own way on."""
        self.devices_at_hand: tuple[str, ...] = ("cpu",)
        """Devices whose numbers are read without waiting."""
        self.holds: dict[int, Hold] = {}
        self._lent: dict[int, Any] = {}
        """Optimizer number → flag that was put on it as `found_inf`."""
        self._episode: set[int] = set()
        self._by_closure: set[int] = set()
        """Optimizers whose step that runs makes its gradients itself."""
        self.left_alone: dict[int, str] = {}
        """Optimizer number → why its updates cannot be held."""

    # --- around a step ---------------------------------------------------------------------------

    def before_step(
        self, known: Known, step: int, look: Callable[[Known], None] = lambda known: None
    ) -> None:
        """The outermost step of an optimizer is about to run; `look` measures what is held."""
        self._repair(known)
        optimizer = known.optimizer
        if optimizer is None or known.number in self._by_closure:
            return  # the gradients are not there yet
        if getattr(optimizer, "found_inf", None) is not None:
            return  # a scaler at work holds by itself
        gradients = gradients_of(optimizer)
        if not gradients or capturing():
            return
        if self._spread(known, gradients):
            return
        if self._known_finite(known, gradients):
            self._episode.discard(known.number)
            return
        flag = nonfinite_flag(gradients)
        if flag is None:
            return
        if self._on_device(optimizer, flag):
            optimizer.found_inf = flag
            self._lent[known.number] = flag
            return
        if not bool(flag):  # the one wait
            self._episode.discard(known.number)
            return
        look(known)
        self._begin(known, step)

    def within_closure(self, known: Known, step: int) -> None:
        """A closure inside the step has made gradients: hold them now if they are poisoned."""
        optimizer = known.optimizer
        gradients = gradients_of(optimizer) if optimizer is not None else []
        if not gradients or self._spread(known, gradients):
            return
        flag = nonfinite_flag(gradients)
        if flag is not None and bool(flag):
            self._begin(known, step)
        else:
            self._episode.discard(known.number)

    def after_step(self, known: Known) -> Any:
        """It ran: put everything back. The flag it was decided by, if that is on a device."""
        self._repair(known)
        flag = self._lent.pop(known.number, None)
        self._by_closure.discard(known.number)
        optimizer = known.optimizer
        if flag is not None and getattr(optimizer, "found_inf", None) is flag:
            del optimizer.found_inf
        return flag

    def _repair(self, known: Known) -> None:
        hold = self.holds.pop(known.number, None)
        if hold is not None:
            hold.end()

    # --- deciding --------------------------------------------------------------------------------

    def _known_finite(self, known: Known, gradients: list[Any]) -> bool:
        """True if norms at hand say that every gradient is finite; clipping keeps them so."""
        norms = known.norms
        if norms is None or len(norms.positions) != len(gradients) or not norms.numbers.here():
            return False
        return math.isfinite(sum(norms.numbers.get()))

    def _spread(self, known: Known, gradients: list[Any]) -> bool:
        """True if other ranks hold parts of the gradients: then nothing is held.

        The ranks would have to agree, and a rank that asks while another one does not (it never
        called `init`, has finished, or failed inside the SDK) would hang the training.
        """
        kind = sharded.dtensor_type()
        if kind is None or not any(
            isinstance(gradient, kind) and sharded.whole(gradient) is None for gradient in gradients
        ):
            return False
        if known.number not in self.left_alone:
            self.left_alone[known.number] = SPREAD
            logger.warning('nanwatch: guard="skip" holds nothing here: %s', SPREAD)
        return True

    def _on_device(self, optimizer: Any, flag: Any) -> bool:
        if flag.device.type in self.devices_at_hand:
            return False
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            return False
        # torch leaves momentum buffers uninitialised when the very first fused SGD step is held.
        momentum = any(group.get("momentum") for group in optimizer.param_groups)
        return not momentum or bool(optimizer.state)

    def _begin(self, known: Known, step: int) -> None:
        hold = Hold(known.optimizer)
        self.holds[known.number] = hold
        if known.number not in self._episode:
            self._episode.add(known.number)
            self._save(step)
        hold.begin()

    def _save(self, step: int) -> None:
        if self.checkpoint is None or len(self.saved) >= CHECKPOINTS_MOST:
            return
        try:
            path = self.checkpoint(step)
        except Exception as error:
            GUARD.note("emergency checkpoint", error)
            return
        if path is not None:
            self.saved.append(path)
            logger.warning(
                "nanwatch: gradients are not finite at attempt %d; the update is held, the state "
                "from before it is saved in %s",
                step + 1,
                path,
            )

    # --- closures --------------------------------------------------------------------------------

    def wrap_closure(self, known: Known, args: Any, kwargs: Any, step: Callable[[], int]) -> Any:
        """(args, kwargs) of a step whose closure is followed by our decision; None to leave it."""
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        optimizer = known.optimizer
        if not callable(closure) or optimizer is None:
            return None
        self._by_closure.add(known.number)
        kind = type(optimizer)
        if kind.__name__ in CLOSURE_ONLY or not kind.__module__.startswith("torch.optim"):
            self.left_alone[known.number] = f"{kind.__name__} steps by a closure"
            return None

        def guarded_closure() -> Any:
            loss = closure()
            try:
                self.within_closure(known, step())
            except Exception as error:
                GUARD.note("guard", error)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": guarded_closure}
        return (args[0], guarded_closure, *args[2:]), kwargs

    def coverage(self) -> str:
        """What is held, and where nothing can be."""
        if self.left_alone:
            why = "; ".join(sorted(set(self.left_alone.values())))
            return f"poisoned updates are held, not all: {why}"
        return "poisoned updates are held"
