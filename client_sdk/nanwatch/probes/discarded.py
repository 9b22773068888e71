"""Batches that a script throws away before backward (`if not isfinite(loss): continue`).

No event of an optimizer tells of them. `Discards` learns at each place of the script how its
forward passes and its backward passes follow each other, and says when a batch got none; pure
bookkeeping, no torch. `DiscardProbe` feeds it and closes such attempts, so that they are counted
and commands are applied. A false skip is worse than a missed one: in doubt it says nothing.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.guard import GUARD
from nanwatch.probes.attempts import USER_SKIPPED
from nanwatch.probes.calls import Listener, Watch, calls_of
from nanwatch.probes.tensors import Numbers, capturing, read

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.registry import Known

LEARNED_RUNS = 20
"""So often a backward pass must have followed the forward passes of a place in the script."""

STRAY_SHARE = 0.1
"""Part of those that may have been cleared in between and still say nothing about the loop."""

SURE_STREAK = 2
"""Batches that were cleared without backward, one after another, need no further evidence."""

SITES_MOST = 256


@dataclass(slots=True)
class _Site:
    """One place in the script that calls a root module in training mode, with gradients."""

    owners: frozenset[int] = frozenset()
    run: int = 0
    """Calls since the last backward pass."""
    cleared: bool = False
    """Gradients of an owner were cleared since the last call."""
    strays: int = 0
    """Calls that were followed by clearing and another call, as part of the normal loop."""
    streak: int = 0
    runs: int = 0
    length: int | None = None
    """Calls in a run, as long as that is always the same."""
    constant: bool = True

    @property
    def clears_once(self) -> bool:
        """Known well, and gradients are not cleared between its calls."""
        return self.runs >= LEARNED_RUNS and self.strays <= STRAY_SHARE * self.runs


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The calls before this one seem to have been thrown away."""

    optimizers: frozenset[int]
    sure: bool
    """False: only if what the last call gave is not finite."""
    cleared: bool
    """True if clearing the gradients gave it away."""
    site: Hashable
    length: int


@dataclass(slots=True)
class Discards:
    """Knows which forward passes are followed by which backward passes."""

    sites: dict[Hashable, _Site] = field(default_factory=dict)

    def forward(self, site: Hashable, owners: frozenset[int]) -> Suspicion | None:
        """A root module that these optimizers train is about to be called."""
        known = self.sites.get(site)
        if known is None:
            if len(self.sites) >= SITES_MOST:
                self.sites.clear()
            known = self.sites[site] = _Site()
        known.owners = owners
        suspicion = self._suspicion(site, known) if known.run else None
        known.run += 1
        known.cleared = False
        return suspicion

    def _suspicion(self, site: Hashable, known: _Site) -> Suspicion | None:
        if known.cleared:
            if not known.clears_once:
                known.strays += 1
                return None
            known.streak += 1
            length, known.run = known.run, 0
            sure = known.streak >= SURE_STREAK
            return Suspicion(known.owners, sure, True, site, length)
        length = known.length
        if length is None or not known.constant or known.runs < LEARNED_RUNS:
            return None
        if known.run % length:
            return None
        return Suspicion(known.owners, False, False, site, length)

    def confirmed(self, suspicion: Suspicion) -> None:
        """It was so: those calls are no part of the run that is going on."""
        known = self.sites.get(suspicion.site)
        if known is not None and not suspicion.cleared:
            known.run = max(0, known.run - suspicion.length)

    def zeroed(self, optimizers: frozenset[int]) -> None:
        """Gradients of these optimizers were cleared."""
        for known in self.sites.values():
            if known.run and known.owners & optimizers:
                known.cleared = True

    def backward(self, reached: frozenset[int]) -> None:
        """A backward pass ran: it used what was computed since the last one."""
        for known in self.sites.values():
            if not known.run:
                continue
            if known.owners & reached:
                known.runs += 1
                if known.length is None:
                    known.length = known.run
                elif known.length != known.run:
                    known.constant = False
            known.run, known.cleared, known.streak = 0, False, 0

    def forget(self) -> None:
        """Something else closed an attempt: what came before says nothing."""
        for known in self.sites.values():
            known.run, known.cleared, known.streak = 0, False, 0


class DiscardProbe(Listener):
    """Closes the attempts of batches that were thrown away before backward."""

    name: ClassVar[str] = "discarded batches"

    def install(self) -> None:
        """Ask to be told of calls before they run, and of `zero_grad`."""
        import torch

        self._torch = torch
        self._discards = Discards()
        self._calls = calls_of(self.observer)
        self._last: dict[Hashable, weakref.ref[Any]] = {}
        """Output of the last call of each place."""
        self._asked: list[tuple[Suspicion, Numbers]] = []
        self._site: Hashable = None
        self._count = 0
        self._calls.before_call = self._before_call
        self.observer.on_zero_grad = self._zeroed

    def remove(self) -> None:
        """Nobody need tell any more."""
        self._calls.before_call = None
        self.observer.on_zero_grad = None

    def wants(self, watch: Watch) -> bool:
        """Everything that is trained."""
        return bool(watch.owners)

    def _before_call(self, watch: Watch) -> None:
        """The outermost call of a watched module begins. May raise what a command raises."""
        before = self.observer.clock.step
        try:
            self._look(watch)
        except Exception as error:
            GUARD.note(f"probe {self.name}", error)
        if self.observer.clock.step != before:
            self.observer.settle()

    def _look(self, watch: Watch) -> None:
        torch = self._torch
        self._site = None
        if self._asked:
            self._read_answers()
        module = watch.ref()
        inside = self._calls.in_step or not watch.owners
        if inside or module is None or not module.training or not torch.is_grad_enabled():
            return
        # Frames: this one, `_before_call`, `_told` and `_seen` of `calls`; then torch's own.
        self._site = site = (self.observer.sites.here(5), watch.name)
        suspicion = self._discards.forward(site, watch.owners)
        if suspicion is None:
            return
        if suspicion.sure:
            self._close(suspicion)
            return
        last = self._last.get(site)
        output = last() if last is not None else None
        if output is not None and not capturing():
            # Larger than the square root of the largest float counts too: losses square.
            norm = torch.linalg.vector_norm(output.detach())
            self._asked.append((suspicion, read(norm.reshape(1))))
            del self._asked[:-8]
            self._read_answers()

    def _read_answers(self) -> None:
        waiting = self._asked
        self._asked = []
        for suspicion, numbers in waiting:
            if not numbers.ready():
                self._asked.append((suspicion, numbers))
            elif not math.isfinite(numbers.get()[0]):
                self._discards.confirmed(suspicion)
                self._close(suspicion)

    def _close(self, suspicion: Suspicion) -> None:
        clock = self.observer.clock
        live = [n for n in suspicion.optimizers if n in self.observer.registry.known]
        if not live or any(clock.awaiting(n) for n in live):
            return  # a part of an accumulated batch: the attempt goes on
        self._count += 1
        self.observer.discarded(clock.main if clock.main in live else min(live))

    def called(self, watch: Watch, output: Any, with_grad: bool) -> None:
        """Remember, weakly, what came out."""
        site, self._site = self._site, None
        if site is None or self._calls.depth:
            return
        tensor = _first_tensor(output, self._torch.Tensor)
        if tensor is not None:
            if len(self._last) >= SITES_MOST:
                self._last.clear()
            self._last[site] = weakref.ref(tensor)

    def _zeroed(self, owner: Any) -> None:
        if self._calls.in_step or not self._discards.sites:
            return
        known = self.observer.registry.find(owner)
        if known is not None:
            self._discards.zeroed(frozenset((known.number,)))
            return
        watch = self._calls.watches.get(id(owner))
        if watch is not None:
            self._discards.zeroed(watch.owners)

    def after_backward(self, backward: Backward) -> None:
        """What was computed has been used."""
        self._asked.clear()
        self._discards.backward(backward.reached)

    def closed(self, known: Known, attempt: Attempt) -> None:
        """Steps without a backward pass of ours (`autograd.grad`) say nothing about batches."""
        if not attempt.backwards and attempt.outcome != USER_SKIPPED:
            self._discards.forget()

    def coverage(self) -> str:
        """Told once it has found some."""
        return f"{self._count} found" if self._count else ""


def _first_tensor(output: Any, plain: Any) -> Any:
    """A tensor (type `plain`) of an output: itself, the first of a tuple, the loss or logits."""
    for _ in range(3):
        if type(output) is plain:
            return output if output.is_floating_point() else None
        if isinstance(output, dict):
            output = next(iter(output.values()), None)
        elif isinstance(output, tuple | list) and output:
            output = output[0]
        else:
            return None
    return None
