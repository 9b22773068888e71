"""The clock: attempts to update, and how each of them closed.

An attempt opens when a backward pass reaches an optimizer's parameters and closes when that
optimizer steps (`applied`, or `held` by a guard), when `GradScaler.step` passes without a step
(`scaler_skipped`), or when its gradients are cleared, or found cleared at the next backward, with
no step in between (`user_skipped`). So it runs on while a script skips every update, which is when
we must count and act. Pure bookkeeping over integers, no torch; `probes.hooks` feeds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanwatch.contract.limits import STEP_MAX
from nanwatch.probes.surgery import Surgery

APPLIED, SCALER_SKIPPED, USER_SKIPPED, HELD = 0, 1, 2, 3
"""Outcomes; the numbers are the values of the series `skip_reason`. `HELD`: the optimizer stepped,
but a guard of ours kept a poisoned update from changing anything."""

MAIN_SETTLED_ATTEMPTS = 50
"""A fresh optimizer after this many attempts of the main one may be a new fit (design 5)."""

TAKEOVER_ATTEMPTS = 10
"""…and becomes the main one once it closed this many while the old main one closed none, and twice
as many as others ever did between two attempts of the main one (inner loops of meta learning)."""

ACCUMULATION_MOST = 64
"""Backward passes that may pile up before an attempt is taken to be skipped for ever."""


@dataclass(slots=True, eq=False)
class Backward:
    """One backward pass that reached parameters of the optimizers in `reached`."""

    reached: frozenset[int]
    roots: Sequence[Any] = ()
    """(value, divisor) of its roots, opaque here."""
    site: Any = None
    """Where it was called from, opaque here."""
    starts: Sequence[Any] = ()
    """Nodes of the graph that it starts from, opaque here; only while it begins."""
    loss_dtype: str = ""
    """Number format of the loss, told of the first pass from a place in the code."""
    retained: bool = False
    """True if the script asked to keep the graph: another pass may follow."""
    evaluating: bool = False
    """True if every model was in evaluation mode."""
    open: set[int] = field(init=False)
    """Optimizers of `reached` that have not cleared their gradients since."""

    booked: bool = False
    """True if the clock knew of it before it ended: an optimizer stepped inside it."""

    def __post_init__(self) -> None:
        self.open = set(self.reached)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A closed attempt."""

    optimizer: int
    outcome: int
    step: int
    """Attempt number of the main optimizer, counted from 1."""
    is_main: bool
    backwards: tuple[Backward, ...]
    fit: bool = False
    """True for the first attempt of a new main optimizer (next fold, next stage)."""


class AttemptClock:
    """Counts attempts of every optimizer and names the main one."""

    def __init__(self) -> None:
        self.main: int | None = None
        self.step = 0
        """Attempts of the main optimizer that have closed."""
        self.counts: dict[int, int] = {}
        self._pending: list[Backward] = []
        self._main_fixed = False
        self._rival: dict[int, int] = {}
        """Attempts of other optimizers since the main one last closed one."""
        self._between_most = 0
        """Most attempts that others closed between two of the main one."""
        self._main_attempts = 0
        self._orphaned = False
        """True if the main optimizer died and nothing has taken its place yet."""
        self._most_backwards = 1
        self._trains = False
        """True if a model in training mode was stepped."""
        self._surgery: dict[int, Surgery] = {}
        """By optimizer that clears passes which kept their graph."""
        self._piled = 0
        """Backward passes taken for skipped since the last step: if one comes, they were not."""

    def set_main(self, optimizer: int) -> None:
        """The user named the main optimizer."""
        self.main, self._main_fixed = optimizer, True

    def start_at(self, step: int) -> bool:
        """A resumed training: the next attempt is `step` + 1. False for what can be no step."""
        if not 0 <= step <= STEP_MAX:
            return False
        self.step = max(self.step, step)
        return True

    def awaiting(self, optimizer: int) -> bool:
        """True if a backward pass of this optimizer is waiting to be used or thrown away."""
        return any(optimizer in b.open for b in self._pending)

    @property
    def pending(self) -> list[Backward]:
        """Backward passes whose fate is open."""
        return self._pending

    def backward(self, backward: Backward, inside_step: bool = False) -> list[Attempt]:
        """A backward pass has ended."""
        closed: list[Attempt] = []
        if not backward.reached:
            return closed
        most = max(ACCUMULATION_MOST, 4 * self._most_backwards)
        if len(self._pending) >= most and not inside_step:
            owner = min(self._pending[0].reached)
            taken = [b for b in self._pending if owner in b.reached]
            self._piled += len(taken)
            closed.append(self._close(owner, USER_SKIPPED, taken))
        self._pending.append(backward)
        return closed

    def stepped(self, optimizer: int, outcome: int = APPLIED) -> Attempt:
        """The optimizer stepped, or its scaler refused to."""
        taken = [b for b in self._pending if optimizer in b.reached]
        if not taken and self._pending:
            # It stepped, so some backward served it: the last one was booked on the wrong one.
            taken = self._pending[-1:]
        self._trains = self._trains or any(not one.evaluating for one in taken)
        surgery = self._surgery.get(optimizer)
        if surgery is not None:
            taken = surgery.stepped() + taken
        self._most_backwards = max(self._most_backwards, len(taken) + self._piled)
        self._piled = 0
        return self._close(optimizer, outcome, taken)

    def cleared(self, optimizers: Iterable[int]) -> list[Attempt]:
        """Gradients of these optimizers were cleared."""
        gone = set(optimizers)
        done: dict[int, list[Backward]] = {}
        for backward in self._pending:
            hit = backward.open & gone
            if not hit:
                continue
            backward.open -= gone
            if not backward.open:
                # Every optimizer it could have served threw it away: one skipped attempt, booked
                # on the main optimizer if that is among them.
                owner = self.main if self.main in backward.reached else min(backward.reached)
                assert owner is not None
                done.setdefault(owner, []).append(backward)
        closed: list[Attempt] = []
        for owner, taken in done.items():
            closed += self._skipped(owner, taken)
        return closed

    def _skipped(self, owner: int, taken: list[Backward]) -> list[Attempt]:
        """Nobody used these passes, unless they are parts of an attempt that goes on, or none of
        the training: an evaluation took their gradients (Fisher information, saliency)."""
        if self._trains and all(one.evaluating for one in taken):
            self._pending = [b for b in self._pending if b not in taken]
            return []
        surgery = self._surgery.get(owner)
        if surgery is None and taken[0].retained:
            surgery = self._surgery[owner] = Surgery()
        if surgery is None:
            return [self._close(owner, USER_SKIPPED, taken)]
        if surgery.takes(taken):
            self._pending = [b for b in self._pending if b not in taken]
            return []
        unused = [[one] for one in surgery.let_go()]
        return [self._close(owner, USER_SKIPPED, passes) for passes in [*unused, taken]]

    def discarded(self, optimizer: int) -> Attempt:
        """A batch of this optimizer was thrown away before there was a backward pass."""
        return self._close(optimizer, USER_SKIPPED, [])

    def _close(self, optimizer: int, outcome: int, taken: list[Backward]) -> Attempt:
        if taken == self._pending:  # all of them: the plain loop
            self._pending = []
        else:
            self._pending = [b for b in self._pending if b not in taken]
        self.counts[optimizer] = self.counts.get(optimizer, 0) + 1
        fit = self._elect(optimizer)
        is_main = optimizer == self.main
        if is_main:
            self.step += 1
            self._main_attempts += 1
            if self._rival:
                self._between_most = max(self._between_most, sum(self._rival.values()))
                self._rival.clear()
        return Attempt(optimizer, outcome, self.step, is_main, tuple(taken), fit)

    def _elect(self, optimizer: int) -> bool:
        """Name the main optimizer; True if a new one has just taken over."""
        if self.main is None:
            self.main = optimizer
            return False
        if self._main_fixed or optimizer == self.main:
            return False
        self._rival[optimizer] = self._rival.get(optimizer, 0) + 1
        settled = self._main_attempts >= MAIN_SETTLED_ATTEMPTS
        # The inner loop of meta learning closed an attempt first and was gone after a few: the
        # one that has done more since is what trains.
        settled = settled or (self._orphaned and self.counts[optimizer] > self._main_attempts)
        if settled and self._rival[optimizer] >= max(TAKEOVER_ATTEMPTS, 2 * self._between_most):
            return self.take_over(optimizer)
        return False

    def main_died(self) -> None:
        """The main optimizer is gone; who comes after it is not known yet."""
        self._orphaned = True

    def retire(self, optimizer: int, successor: int | None = None) -> bool:
        """An optimizer is gone. True if `successor` became the main one in its place."""
        self._pending = [b for b in self._pending if b.open - {optimizer}]
        self._rival.pop(optimizer, None)
        self._surgery.pop(optimizer, None)
        if optimizer != self.main or successor is None or self._main_fixed:
            return False
        # The outer loop of meta learning goes on while its inner optimizers come and go.
        lasting = max(self._rival, key=lambda number: self.counts[number], default=None)
        if lasting is not None and self.counts[lasting] > self.counts.get(optimizer, 0):
            self.take_over(lasting)
            self._main_attempts = self.counts[lasting]
            return False
        return self.take_over(successor)

    def take_over(self, optimizer: int) -> bool:
        """Make another optimizer the main one; the count goes on."""
        settled = self._main_attempts >= MAIN_SETTLED_ATTEMPTS
        self.main, self._main_attempts, self._orphaned = optimizer, 0, False
        self._between_most = 0
        self._rival.clear()
        return settled
