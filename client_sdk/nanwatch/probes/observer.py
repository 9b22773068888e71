"""The centre of the probes: every event of the training passes here, in order.

`hooks` calls it from the patched functions; it drives the clock, decides what to measure, closes
attempts and applies commands. Training thread only; nothing here raises except `StopTraining`.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

from nanwatch.contract.frames import Mark
from nanwatch.control.actions import Actions
from nanwatch.control.holding import take_held
from nanwatch.control.learning_rate import Scaling, factor_of, set_factor
from nanwatch.control.skip_guard import SkipGuard
from nanwatch.probes import discovery, frameworks, gradients, loss, rates, sharded
from nanwatch.probes.attempts import (
    APPLIED,
    HELD,
    MAIN_SETTLED_ATTEMPTS,
    SCALER_SKIPPED,
    Attempt,
    AttemptClock,
    Backward,
)
from nanwatch.probes.catalogue import PROBES
from nanwatch.probes.clipping import Clip
from nanwatch.probes.closing import Telling, closed_attempt
from nanwatch.probes.logged import Intake
from nanwatch.probes.observations import ClosedAttempt, Health, Marked
from nanwatch.probes.overhead import BUDGET_LEAST_S, Cadence, Overhead
from nanwatch.probes.probe import Probes
from nanwatch.probes.registry import Known, Registry
from nanwatch.probes.sites import Sites
from nanwatch.probes.tensors import Picked, read, read_all
from nanwatch.record import Recorder

GRADIENTS_SHARE = 0.5
"""Part of the overhead budget for gradient norms; the further probes share the rest."""

OVERHEAD_ATTEMPTS = 20
"""What the SDK costs is recorded this often."""

CLIPS_MOST = 16
UNSCALED_MOST = 64
FOREIGN_EVENTS = 100
"""About fifty attempts of another thread while the known one is silent."""

NAMINGS_FREE = 8
NAMING_PAUSE = 100
"""Finding names may take one percent of the time, after the first few."""
CHEAP_LOOKS = 4
CHEAP_PAUSE = 10
"""Names from the running frames may take a tenth: without them attempts would be lost."""


class Observer:
    """Sees one training process."""

    def __init__(self, recorder: Recorder, budget: float | None = None) -> None:
        self.recorder = recorder
        self.clock = AttemptClock()
        self.registry = Registry()
        self.scaling = Scaling()
        self.actions: Actions | None = None
        self.skip_guard: SkipGuard | None = None
        """Holds poisoned updates, if the script asked for it."""
        self.roots_now: list[Any] = []
        """Roots of the backward pass that is about to run, while probes look at them."""
        self.last_closed: ClosedAttempt | None = None
        """What was recorded of the attempt that has just closed, for the probes."""
        self.health = Health()
        self.intake = Intake(recorder, self.clock)
        self.overhead = Overhead(cap=budget)
        self.cadence = Cadence(self.overhead, GRADIENTS_SHARE, BUDGET_LEAST_S)
        self.probes = Probes(self, PROBES)
        self.plans = gradients.Plans(self.registry)
        self.enabled = True
        self.settle: Callable[[], None] = lambda: None
        """Applies commands at a boundary and may raise what they raise; set by `hooks`."""
        self.on_zero_grad: Callable[[Any], None] | None = None
        """Told of every `zero_grad` of an optimizer or a module."""
        self.unscaled: dict[int, Any] = {}
        """`id(scaled loss)` → the loss before a GradScaler multiplied it."""
        self.rates_seen = rates.Seen()
        """As of the last closed attempt, for the background thread."""
        self.sites = Sites()
        """Places whose losses add up to that of the attempt."""
        self.thread: threading.Thread | None = None
        """The thread that trains, and its identifier: quicker to compare."""
        self.thread_id = 0
        self._foreign = 0
        self._step_rates: dict[int, tuple[rates.StepRate, ...]] = {}
        self._scans = 0
        self.telling = Telling(self)
        self._running: list[Backward] = []
        """Backward passes that run now: one, or more where they nest (checkpointing)."""
        self._namings = 0
        self._name_after = 0.0
        self._not_named: list[int] = []
        """New optimizers whose models the running frames did not hold, ..."""
        self._looks = 0
        """... and how often they were looked at."""
        self._cheap_after = 0.0

    def on_this_thread(self) -> bool:
        """True on the thread that trains: the first one that ran backward or a step.

        Another thread takes over when that one is dead, or stays silent while the other is busy.
        """
        if self.thread_id == get_ident():
            self._foreign = 0
            return True
        self._foreign += 1
        if self.thread is None or not self.thread.is_alive() or self._foreign > FOREIGN_EVENTS:
            self.thread, self._foreign = threading.current_thread(), 0
            self.thread_id = get_ident()
            return True
        return False

    # --- events ----------------------------------------------------------------------------------

    def before_backward(
        self, tensors: Any, inside_step: bool, inputs: Any = None, retained: bool = False
    ) -> Backward:
        """A backward pass is about to run: find whom it serves, keep its loss.

        Inside a step (closures) gradients come and go within one attempt.
        """
        if not inside_step:
            self._close_if_cleared_by_hand()
        if not self.registry.known and self._scans < 3:
            self._scans += 1
            self._scan()
        self._name()
        roots = loss.roots_of(tensors)
        owners = self.registry.owner_of()
        site = self.sites.here(4)
        dtype = "" if site.reached is not None else loss.dtype_of(roots, self.unscaled)
        if inputs is not None:
            # Only these get gradients (adversarial examples, saliency).
            only = [inputs] if hasattr(inputs, "requires_grad") else list(inputs)
            reached = frozenset(owners[id(p)] for p in only if id(p) in owners)
        elif site.reached is not None:
            reached = site.reached
        else:
            reached = self._reached(roots, owners)
            site.shared_out = frameworks.loss_is_shared_out(sys._getframe(1))
            if reached and not site.shared:
                site.reached = reached
        backward = Backward(reached, site=site, loss_dtype=dtype, retained=retained)
        if reached:
            values = loss.root_values(roots, self.unscaled)
            backward.roots = loss.read_roots(values, site.shared_out)
            self.roots_now = roots
            backward.starts = loss.starts_of(roots)
            self.probes.call("before_backward", backward)
            backward.starts = ()  # the graph is not ours to keep
            self.roots_now = []
        self._running.append(backward)
        return backward

    def _reached(self, roots: list[Any], owners: dict[int, int]) -> frozenset[int]:
        """Optimizers that a graph reaches; under FSDP it ends at parameters of nobody."""
        reached = loss.reached_parameters(roots, owners)
        if not reached and owners and sharded.dtensor_type() is not None:
            modules = [m for ref in self.registry.roots.values() if (m := ref()) is not None]
            used = sharded.gathered(modules, owners)
            reached = loss.reached_parameters(roots, used) if used else reached
        return reached

    def scaled(self, result: Any, outputs: Any) -> None:
        """A GradScaler multiplied a loss. Values only: its graph is not ours to keep."""
        if len(self.unscaled) >= UNSCALED_MOST:
            self.unscaled = {k: v for k, v in self.unscaled.items() if v[0]() is not None}
            while len(self.unscaled) >= UNSCALED_MOST:
                self.unscaled.pop(next(iter(self.unscaled)))
        self.unscaled[id(result)] = (
            weakref.ref(result),
            outputs.detach(),
            loss.divisor_of(outputs),
        )

    def after_backward(self, backward: Backward, inside_step: bool = False) -> None:
        """It ran."""
        backward.evaluating = bool(backward.reached) and self._evaluating()
        for number in backward.reached:
            known = self.registry.known.get(number)
            if known is not None:
                known.remember_witness()
                # The gradients are others now: what was measured before is of no use.
                known.norms = None
                known.by_closure = known.by_closure or inside_step
                known.free.clear()
                known.clipped = False
        if backward.reached:
            self.probes.call("after_backward", backward)
        self.backward_ended(backward)
        if not backward.booked:
            for attempt in self.clock.backward(backward, inside_step):
                self._emit(attempt)

    def _evaluating(self) -> bool:
        """True while every model that is trained is in evaluation mode: others (a teacher, a net of
        another script) may be in either."""
        known = False
        for ref in self.registry.trained:
            model = ref()
            if model is not None and model.training:
                return False  # nearly always the first
            known = known or model is not None
        return known

    def backward_ended(self, backward: Backward) -> None:
        """It runs no longer: it ended, or raised."""
        self._running = [other for other in self._running if other is not backward]

    def before_clear(self, optimizers: Sequence[Known]) -> None:
        """Gradients are about to be cleared: if nobody used them, that is a skipped attempt."""
        waiting = [known for known in optimizers if self.clock.awaiting(known.number)]
        if not waiting:
            return
        for known in waiting:
            if known.changed_by_hand():
                # Weights moved without the optimizer (SAM's ascent, hand-written descent): not a
                # skip. The next step takes these backward passes along.
                for other in waiting:
                    other.witness = None
                return
            self._measure(known, force=True)
        for attempt in self.clock.cleared([known.number for known in waiting]):
            self._emit(attempt)

    def clip(self, parameters: list[Any], clip: Clip) -> None:
        """The user's clipping call, with the parameters that have gradients."""
        self._name()
        shares = self.plans.of(parameters)
        numbers = read(clip.norms) if clip.norms is not None and shares else None
        clip.norms = None
        for share in shares:
            known = self.registry.known[share.number]
            known.clips.append(clip)
            del known.clips[:-CLIPS_MOST]
            if numbers is None or share.layout is None:
                self._before_clipped(known)
                continue
            picked = numbers if share.indices is None else Picked(numbers, share.indices)
            known.free.append((share, picked))
            del known.free[:-CLIPS_MOST]

    def clip_values(self, gradients_: list[Any], clip: Clip) -> None:
        """The user's `clip_grad_value_` is about to change these gradients."""
        ids = set(map(id, gradients_))
        for known in self.registry.live():
            if any(id(p.grad) in ids for p in known.parameters()):
                self._before_clipped(known)
                known.clips.append(clip)
                del known.clips[:-CLIPS_MOST]
                self.telling.clipped_at = clip.threshold

    def _before_clipped(self, known: Known) -> None:
        """In a moment the gradients will be changed: measure now or not in this attempt."""
        if not known.clipped:
            self._measure(known, force=False)
            known.clipped = True

    def before_step(self, known: Known) -> None:
        """The outermost step of an optimizer is about to run."""
        optimizer = known.optimizer
        self.registry.refresh(known)
        self._name()
        if not known.by_closure:
            self._measure(known, force=False)
        self.probes.call("before_step", known)
        if self.skip_guard is not None:
            self.skip_guard.before_step(known, self.clock.step, self._measure_all)
        known.factor = factor_of(optimizer)
        self._step_rates[known.number] = rates.begin(optimizer, self.scaling)

    def after_step(self, known: Known) -> None:
        """It ran: the attempt closes as applied, unless a fused optimizer says otherwise."""
        self.scaling.repair()
        flag = self.skip_guard.after_step(known) if self.skip_guard is not None else None
        if known.by_closure:
            self._measure(known, force=False)
        self.probes.call("after_step", known)
        found_inf = getattr(known.optimizer, "found_inf", None)
        outcome = HELD if take_held(known.optimizer) else APPLIED
        if self._running and not known.by_closure:
            self._book_running(known.number)
        attempt = self.clock.stepped(known.number, outcome)
        for backward in attempt.backwards:
            if known.number not in backward.reached:
                # One place in the code serves several optimizers in turn: walk it every time.
                backward.site.reached, backward.site.shared = None, True
        ours = flag is not None
        self._emit(attempt, found_inf=flag if ours else found_inf, ours=ours)

    def _book_running(self, number: int) -> None:
        """Optimizer in backward: it steps from a gradient hook while the pass still runs."""
        for backward in self._running:
            if number in backward.reached and not backward.booked:
                backward.booked = True
                self.clock.backward(backward)

    def discarded(self, number: int) -> None:
        """A batch was thrown away before its backward pass (`calls` found out)."""
        known = self.registry.known.get(number)
        if known is not None and not self.clock.awaiting(number):
            self._emit(self.clock.discarded(number))

    def scaler_refused(self, known: Known) -> None:
        """`GradScaler.step` passed without a step."""
        self._name()
        self._measure(known, force=True)
        self._emit(self.clock.stepped(known.number, SCALER_SKIPPED))

    def mark(self, what: str, text: str, data: dict[str, str]) -> None:
        """A mark at the present step."""
        self.recorder.put(
            Marked(
                Mark(what=what, step=self.clock.step, time=time.time(), text=text, data=data)  # type: ignore[arg-type]
            )
        )

    # --- closing an attempt ----------------------------------------------------------------------

    def _emit(self, attempt: Attempt, found_inf: Any = None, ours: bool = False) -> None:
        known = self.registry.known.get(attempt.optimizer)
        if known is None or known.optimizer is None:
            return
        self._name()
        if not known.named:
            self.recorder.count_drop("optimizer too short-lived to be named")
            known.forget_attempt()
            self._step_rates.pop(known.number, None)
            return
        if attempt.fit:
            self.mark("fit", f"fit {known.scope}".strip(), {"scope": known.scope})
        self.telling.describe(known, attempt)
        closed = closed_attempt(known, attempt, self.health, self.intake.loss_at)
        if attempt.outcome == APPLIED:
            closed.rates = self._step_rates.pop(known.number, ())
        if found_inf is not None:
            closed.found_inf = read_all([found_inf])
            closed.outcome_if_found = HELD if ours else SCALER_SKIPPED
        known.forget_attempt()
        if attempt.is_main:
            closed.step_time = self.overhead.step()
            if attempt.step % OVERHEAD_ATTEMPTS == 0:
                closed.overhead = self.overhead.share
            if self.health.noticed:
                self.health.noticed = False
                self.cadence.alert()
                self.probes.alert()
        self.telling.closed(attempt, closed.norms is not None)
        self.recorder.put(closed)
        self.last_closed = closed
        self.probes.call("closed", known, attempt)
        if closed.rates:
            self.rates_seen.note(known.scope, closed.rates)

    @property
    def rates(self) -> tuple[dict[str, float], dict[str, float]]:
        """(in force, scheduled) by scope; waits for a device if it must: background thread."""
        return self.rates_seen.read()

    def due_stop(self) -> BaseException | None:
        """Apply armed commands; the exception to raise if one of them was a stop."""
        if self.actions is None:
            return None
        stop = self.actions.apply_due(self.clock.step)
        for known in self.registry.live():
            known.factor = factor_of(known.optimizer)
        self.rates_seen.replace(*self.actions.rates())
        return stop

    # --- measuring -------------------------------------------------------------------------------

    def _measure(self, known: Known, *, force: bool) -> None:
        if known.norms is not None:
            return
        self._name()
        own = not known.clipped and (force or self._norms_due(known))
        if not own and not known.free:
            return
        started = time.perf_counter()
        known.norms, passed = gradients.measure(known, own_pass=own)
        if passed:
            self.cadence.spent(time.perf_counter() - started)

    def _norms_due(self, known: Known) -> bool:
        """Parts of a norm are of use only if all ranks measure theirs at the same step."""
        if known.layout is not None and known.layout.sharded:
            return self.cadence.due_at(self.clock.step + 1)
        return self.cadence.due(known.number)

    def _measure_all(self, known: Known) -> None:
        self._measure(known, force=True)

    def _close_if_cleared_by_hand(self) -> None:
        """`p.grad = None` for all parameters calls nothing of ours: look before the next pass."""
        if not self.clock.pending:
            return
        gone: list[int] = []
        for number in {n for b in self.clock.pending for n in b.open}:
            known = self.registry.known.get(number)
            witness = known.witness() if known is not None and known.witness is not None else None
            if witness is None or witness.grad is not None or known is None:
                continue
            if known.changed_by_hand():
                # SAM's ascent, cleared by a wrapper that we do not know: see `before_clear`.
                known.witness = None
            else:
                gone.append(number)
        for attempt in self.clock.cleared(gone):
            self._emit(attempt)

    # --- discovery -------------------------------------------------------------------------------

    def _scan(self) -> None:
        import torch

        for optimizer in discovery.instances(torch.optim.Optimizer):
            if hasattr(optimizer, "param_groups"):
                self.registry.add(optimizer)

    def _name(self) -> None:
        """Name optimizers that have no name yet; notice those that are gone."""
        if not self.registry.unnamed and not self.registry.gone:
            return
        if self.clock.main in self.registry.gone:
            self.clock.main_died()
        started = time.perf_counter()
        fresh = [known for known in self.registry.live() if not known.named or known.layout is None]
        replaced: list[Known] = []
        if self._namings >= NAMINGS_FREE and started < self._name_after:
            # A script that makes an optimizer every iteration must not pay for a scan each time.
            found = self._name_cheaply(fresh, started)
            if found is None:
                return
            replaced = found
        elif fresh:
            if self.clock.step >= MAIN_SETTLED_ATTEMPTS:
                # A new fold or stage: let the old optimizer go if only reference cycles hold it,
                # so that the new one takes its name and place.
                gc.collect()
            self.registry.name_all()
            self._namings += 1
            ended = time.perf_counter()
            self._name_after = ended + NAMING_PAUSE * (ended - started)
        gone = self.registry.take_gone() + replaced
        if fresh:
            self.probes.call("named")
        if fresh or gone:
            self.sites.forget()
        for old in gone:
            self.cadence.forget(old.number)
            self.probes.call("gone", old)
            self._hand_over(old, fresh)
            successor = fresh[0] if len(fresh) == 1 else None
            if self.clock.retire(old.number, successor.number if successor else None):
                self.mark("fit", "new optimizer", {"scope": successor.scope if successor else ""})

    def _name_cheaply(self, fresh: Sequence[Known], started: float) -> list[Known] | None:
        """Name new optimizers by what the running frames hold; those they replace. None if it
        cannot be done now: a few looks for each set of them, and a tenth of the time at most."""
        numbers = [known.number for known in fresh]
        if not fresh:
            return []
        if numbers != self._not_named:
            self._not_named, self._looks = numbers, 0
        if self._looks >= CHEAP_LOOKS or started < self._cheap_after:
            return None
        self._looks += 1
        replaced = self.registry.name_from_frames()
        ended = time.perf_counter()
        self._cheap_after = ended + CHEAP_PAUSE * (ended - started)
        return replaced

    @staticmethod
    def _hand_over(old: Known, fresh: Sequence[Known]) -> None:
        """The next fold's optimizer takes over what a person asked for: it is the same run."""
        if old.factor == 1.0:
            return
        for known in fresh:
            if known.scope == old.scope and factor_of(known.optimizer) == 1.0:
                set_factor(known.optimizer, old.factor)
