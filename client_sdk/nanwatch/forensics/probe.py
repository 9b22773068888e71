"""Forensics of one run: notices trouble at the close of an attempt, arms tracing, reports.

A probe like the others. In a healthy attempt it looks at numbers that are on the host anyway and
does nothing else; everything costly happens on trouble, a few times in a run. What it hands over
(`Trouble`, `Traced`) becomes `Forensics` records and flight recorder files on the background
thread.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nanwatch.contract.frames import Forensics as Report
from nanwatch.contract.frames import NonFinite, Record
from nanwatch.forensics import graph, state, trace_report
from nanwatch.forensics.flight_recorder import FlightRecorder
from nanwatch.forensics.names import Names, names_of
from nanwatch.forensics.scan import Scan, scan
from nanwatch.forensics.tracing import Trace, Tracer
from nanwatch.forensics.verdict import NAMES_MOST, Verdict, from_gradients, several
from nanwatch.guard import GUARD
from nanwatch.probes.attempts import APPLIED, HELD, Attempt, Backward
from nanwatch.probes.loss import combine
from nanwatch.probes.observations import ClosedAttempt
from nanwatch.probes.probe import Probe
from nanwatch.probes.registry import Known
from nanwatch.probes.tensors import Numbers, number_of
from nanwatch.record import Catalog, Row

if TYPE_CHECKING:
    from nanwatch.probes.observer import Observer

logger = logging.getLogger("nanwatch")

Trigger = Literal["loss", "gradient", "parameter", "skips", "command", "exception"]

TRACED_ATTEMPTS = 50
"""Attempts traced after trouble (incident 000 asks for 50)."""

TROUBLES_MOST = 8
"""Episodes of one run that are looked into."""

HEALTHY_ATTEMPTS = 100
"""An episode is over after as many attempts without anything bad."""

SKIPS_ALARMING = 20
"""Attempts in a row that changed nothing (design 10)."""

HELD_LOUD = 50
"""Updates in a row that a guard held, after which it is said aloud, and at each doubling."""


class Desk:
    """What both threads share: the ring, and what was concluded so far. Background thread."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.flight = FlightRecorder()
        self.due: list[Trouble | Traced] = []
        """Whose numbers are here: reported once what was recorded before them is in the ring."""
        self.certain = self.named = False
        """A layer has been named for this episode (for certain): tracing need not repeat it."""
        self.wanted: NonFinite | None = None
        """Trouble that only the background thread has seen; the training thread looks."""
        self.path = ""

    def saw(self, records: list[Record]) -> list[Record]:
        """Everything that goes out passes here; returns the reports that are due after it."""
        for record in records:
            self.flight.saw(record)
            if isinstance(record, NonFinite) and record.where not in ("logged", "watched"):
                self.wanted = record
        due, self.due = self.due, []
        return [report for one in due for report in one.reports(self.catalog)]


@dataclass(slots=True)
class Trouble:
    """Trouble just met: becomes a file and a first report."""

    desk: Desk
    step: int
    time: float
    trigger: Trigger
    scope: str
    closed: ClosedAttempt | None
    scan: Scan | None
    found: graph.Found | None
    states: dict[str, Any]
    facts: dict[str, str]
    tracing: int
    checkpoint: str = ""
    text: str = ""

    def ready(self) -> bool:
        """True once the device has delivered everything."""
        closed = self.closed is None or self.closed.ready()
        return closed and (self.scan is None or self.scan.ready())

    def rows(self, catalog: Catalog) -> Iterable[Row]:
        """Nothing yet: `reports` comes at the end of the drain."""
        self.desk.due.append(self)
        return ()

    def reports(self, catalog: Catalog) -> Iterable[Report]:
        """One report; the flight recorder file is written on the way."""
        verdict = self._judge()
        desk = self.desk
        desk.certain, desk.named = verdict.certain, verdict.verdict == "layer"
        facts = {**self.facts, **self._numbers(catalog), **verdict.facts}
        report = _report(self, verdict, facts)
        report.checkpoint_path = self.checkpoint
        report.tracing_steps = self.tracing
        try:
            said = {"trigger": self.trigger, "step": self.step, "text": report.text, "facts": facts}
            report.recorder_path = desk.flight.write(catalog, said, self.states)
        except OSError as error:
            GUARD.note("flight recorder", error)
        desk.path = report.recorder_path
        if self.trigger != "command":
            logger.warning(
                "nanwatch: attempt %d: %s Written to %s",
                self.step,
                report.text,
                report.recorder_path,
            )
        yield report

    def _judge(self) -> Verdict:
        gradients = gradient_verdict(self.closed)
        if self.trigger in ("command", "exception", "skips") and gradients.verdict == "not_found":
            return Verdict(text=self.text or f"{self.trigger}: nothing non-finite was seen.")
        bad = self.scan.bad_parameters() if self.scan is not None else []
        if bad and self.scan is not None and not self.scan.everywhere:
            return self._poisoned(self.scan, gradients)
        if bad and self.found is not None:
            return Verdict(
                "all_at_once",
                text="All trainable parameters were non-finite before this attempt: an earlier "
                "update poisoned them at once, and nothing can be told from where it shows now.",
                facts={"origin": "parameters"},
            )
        if self.found is not None:
            return self._from_graph(self.found, gradients)
        if gradients.verdict == "not_found":
            gradients.text = f"A non-finite {self.trigger}; tracing will tell where it comes from."
        if bad:
            gradients.text += " All trainable parameters are non-finite by now."
        elif self.scan is not None and gradients.verdict != "not_found":
            gradients.text += " All parameters were finite before the update."
        return gradients

    def _poisoned(self, found: Scan, gradients: Verdict) -> Verdict:
        layers, names = found.bad_layers(), found.bad_parameters()
        text = (
            f"Parameters of {several(layers)} are not finite ({several(names)}): whatever passes "
            f"through {layers[0]} becomes so."
        )
        if len(layers) > 1:
            text += (
                f" They were poisoned by an earlier update; in its backward pass {layers[-1]} came "
                "first."
            )
        return Verdict(
            "layer",
            "unknown",
            first_forward=layers[0],
            first_backward=gradients.first_backward or layers[-1],
            text=text,
            facts={"origin": "parameters"},
            certain=True,
        )

    def _from_graph(self, found: graph.Found, gradients: Verdict) -> Verdict:
        verdict = Verdict(
            "layer" if found.layer else "not_found",
            "overflow" if found.infinite else "nan",
            first_forward=found.layer,
            first_backward=gradients.first_backward,
            facts={"operation": found.operation},
            certain=bool(found.layer),
        )
        if found.layer:
            verdict.producers = [found.layer]
        where = f"{found.layer} or an operation right after it" if found.layer else "no known layer"
        what = "Inf" if found.infinite else "NaN"
        verdict.text = (
            f"In the forward pass the first {what} came from {where} "
            f"(autograd node {found.operation}); its parameters were finite."
        )
        if found.cut:
            verdict.certain = False
            verdict.text = (
                f"{what} came out of {found.layer} or of what follows it: its output does not "
                "belong to the graph of the loss any more, and all computed from it is bad."
            )
        elif not found.layer:
            verdict.text = f"{what} came into the model from outside: look at the batch."
            verdict.facts["origin"] = "data"
        if found.after_last and found.operation.startswith(graph.LOSS_OPERATIONS):
            verdict.verdict = "loss"
            verdict.producers = []
            verdict.text = (
                f"The forward pass was finite up to {found.layer}, the last layer; {what} came "
                f"after it, in the loss (autograd node {found.operation})."
            )
        return verdict

    def _numbers(self, catalog: Catalog) -> dict[str, str]:
        latest = self.desk.flight.latest(catalog, self.scope, self.step)
        kinds = ("loss", "grad_norm", "lr", "clip_threshold", "loss_scale")
        return {kind: f"{latest[kind]:.6g}" for kind in kinds if kind in latest}


@dataclass(slots=True)
class Traced:
    """One traced attempt."""

    desk: Desk
    step: int
    time: float
    trigger: Trigger
    scope: str
    closed: ClosedAttempt
    trace: Trace
    last: bool
    finished: list[bool]
    """Set true on the background thread when there is nothing more to find."""

    def ready(self) -> bool:
        """True once the device has delivered everything."""
        return self.trace.ready() and self.closed.ready()

    def rows(self, catalog: Catalog) -> Iterable[Row]:
        """Nothing yet: `reports` comes at the end of the drain."""
        self.desk.due.append(self)
        return ()

    def reports(self, catalog: Catalog) -> Iterable[Report]:
        """A report if this attempt shows where it began, or if a person asked and nothing did."""
        if self.finished[0]:
            return
        verdict = trace_report.judge(self.trace, _loss(self.closed), gradient_verdict(self.closed))
        if verdict is None:
            if self.last and self.trigger == "command":
                verdict = Verdict(text="All traced attempts were finite in every module.")
            else:
                return
        self.finished[0] = True
        poisoned = verdict.facts.get("origin") == "parameters"
        if (self.desk.certain and not verdict.certain) or (self.desk.named and poisoned):
            return  # the first report said more: by now the poison has spread
        self.desk.certain = self.desk.certain or verdict.certain
        report = _report(self, verdict, verdict.facts)
        report.recorder_path = self.desk.path
        logger.warning("nanwatch: traced attempt %d: %s", self.step, report.text)
        yield report


def _report(source: Trouble | Traced, verdict: Verdict, facts: dict[str, str]) -> Report:
    return Report(
        step=source.step,
        time=source.time,
        trigger=source.trigger,
        scope=source.scope,
        verdict=verdict.verdict,
        cause=verdict.cause,
        first_forward=verdict.first_forward,
        first_backward=verdict.first_backward,
        producers=verdict.producers[:NAMES_MOST],
        propagators=verdict.propagators[:NAMES_MOST],
        text=verdict.text,
        facts=facts,
    )


def gradient_verdict(closed: ClosedAttempt | None) -> Verdict:
    """What the gradient norms of an attempt say. Background thread."""
    if closed is None or closed.norms is None:
        return Verdict()
    layout, positions = closed.norms.layout, closed.norms.positions
    pairs = sorted(zip(positions, closed.norms.numbers.get(), strict=True))
    names = [layout.layers[layout.layer_of[position]] for position, _ in pairs]
    return from_gradients(names, [value for _, value in pairs])


def _loss(closed: ClosedAttempt) -> float | None:
    if not closed.roots:
        return None
    return combine([number_of(root) for root in closed.roots], closed.divisors)


@dataclass(slots=True)
class _Evidence:
    """What was looked at while it was still there: the graph, the weights before the update."""

    found: graph.Found | None = None
    scan: Scan | None = None


class Forensics(Probe):
    """Looks for the origin of non-finite numbers."""

    name: ClassVar[str] = "forensics"
    share: ClassVar[float] = 0.0

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self.desk = Desk(observer.recorder.catalog)
        self.tracer = Tracer()
        self._evidence = _Evidence()
        self._troubles = 0
        self._bad_at = -HEALTHY_ATTEMPTS - 1
        self._skips = 0
        self._found_fine = 0
        """`id` of the norms of the attempt that is open, once they were seen to be finite."""
        self._held = 0
        self._told_at = HELD_LOUD
        self._trigger: Trigger = "command"
        self._finished = [False]

    def keep_in(self, directory: Path, run_id: str) -> None:
        """Where the flight recorder's files of this run go."""
        self.desk.flight.directory, self.desk.flight.run_id = directory, run_id

    def install(self) -> None:
        """Watch what goes out; take commands."""
        self.observer.recorder.taps.append(self.desk.saw)
        if self.observer.actions is not None:
            self.observer.actions.arm_tracing = self.arm_by_command

    def remove(self) -> None:
        """Put everything back."""
        if self.tracer.armed:
            self.tracer.disarm()

    def coverage(self) -> str:
        """Nothing in a healthy run; what is going on while it is armed."""
        return f"tracing, {self.tracer.left} attempts left" if self.tracer.armed else "at hand"

    # --- events of the training thread -----------------------------------------------------------

    def before_backward(self, backward: Backward) -> None:
        """A graph whose loss is bad is still there: look at it now, after this it is gone."""
        if self.tracer.armed:
            self.tracer.in_backward = True
        for value, _ in backward.roots:
            if not isinstance(value, Numbers) and not math.isfinite(value):
                if self._evidence.scan is None and self._fresh(self.observer.clock.step + 1):
                    self._look_at_graph()
                return

    def after_backward(self, backward: Backward) -> None:
        """Calls of modules are no longer recomputations."""
        self.tracer.in_backward = False

    def before_step(self, known: Known) -> None:
        """The last moment before a poisoned update: are the weights still good?"""
        norms = known.norms
        if norms is None or self._evidence.scan is not None or not norms.numbers.here():
            return
        if not _bad(norms.numbers):
            self._found_fine = id(norms)  # so that `closed` need not look again
        elif self._fresh(self.observer.clock.step + 1):
            self._evidence.scan = scan(names_of(self.observer.registry))

    def closed(self, known: Known, attempt: Attempt) -> None:
        """An attempt has closed: is there trouble, is it traced, is tracing wanted?"""
        closed = self.observer.last_closed
        if closed is None:
            return
        if self.tracer.armed:
            self._close_trace(known, closed)
        if attempt.is_main:
            self._skips = 0 if attempt.outcome == APPLIED else self._skips + 1
        trigger = self._trigger_of(closed)
        if trigger is not None:
            fresh = self._fresh(attempt.step)
            self._bad_at = attempt.step
            if fresh:
                self._trouble(trigger, known.scope, attempt.step, closed)
        if self._evidence.scan is not None:
            self._evidence = _Evidence()
        self._count_held(closed.outcome == HELD)

    def _count_held(self, held: bool) -> None:
        """A guard that holds every update for ever must not do so in silence."""
        self._held = self._held + 1 if held else 0
        if not held:
            self._told_at = HELD_LOUD
        elif self._held >= self._told_at:
            self._told_at *= 2
            text = f"the guard held {self._held} updates in a row: nothing is being learned"
            logger.warning("nanwatch: %s", text)
            self.observer.mark("note", text, {"held": str(self._held)})

    def _trigger_of(self, closed: ClosedAttempt) -> Trigger | None:
        norms, fine, self._found_fine = closed.norms, self._found_fine, 0
        for root in closed.roots:
            if _bad(root) if isinstance(root, Numbers) else not math.isfinite(root):
                return "loss"
        if norms is not None and id(norms) != fine and _bad(norms.numbers):
            return "gradient"
        wanted = self.desk.wanted
        if wanted is not None:
            self.desk.wanted = None
            known = wanted.where in ("loss", "gradient")
            return wanted.where if known else "parameter"  # type: ignore[return-value]
        return "skips" if self._skips == SKIPS_ALARMING else None

    def _fresh(self, step: int) -> bool:
        """True if trouble at this step begins a new episode that may be looked into."""
        return self._troubles < TROUBLES_MOST and step > self._bad_at + HEALTHY_ATTEMPTS

    def _look_at_graph(self) -> None:
        registry = self.observer.registry
        names = names_of(registry)
        self._evidence.scan = scan(names)
        layers = {id(p): name.rpartition(".")[0] or name for name, p in names.parameters}
        roots, order = list(self.observer.roots_now), self._in_use(names.order, layers)
        self._evidence.found = graph.first_bad(roots, layers, order)

    def _in_use(self, order: list[str], layers: dict[int, str]) -> list[str]:
        """Layers that updates have touched so far; all of them where nothing tells."""
        used: set[str] = set()
        for known in self.observer.registry.live():
            optimizer = known.optimizer
            if optimizer is None:
                continue
            touched = list(optimizer.state) or known.parameters()
            used.update(layers[id(p)] for p in touched if id(p) in layers)
        return [layer for layer in order if layer in used]

    # --- trouble ---------------------------------------------------------------------------------

    def _trouble(self, trigger: Trigger, scope: str, step: int, closed: ClosedAttempt) -> None:
        self._troubles += 1
        evidence = self._evidence
        if evidence.scan is None:
            evidence.scan = scan(names_of(self.observer.registry))
        guard = self.observer.skip_guard
        saved = str(guard.saved[-1]) if guard is not None and guard.saved else ""
        skipped = f"{self._skips} attempts in a row changed nothing."
        self._put(
            Trouble(
                self.desk,
                step,
                time.time(),
                trigger,
                scope,
                closed,
                evidence.scan,
                evidence.found,
                state.random_states(),
                self._facts(),
                TRACED_ATTEMPTS,
                checkpoint=saved,
                text=skipped if trigger == "skips" else "",
            )
        )
        self._arm(TRACED_ATTEMPTS, trigger)

    def _facts(self) -> dict[str, str]:
        parameters = [p for known in self.observer.registry.live() for p in known.parameters()]
        return state.facts(parameters)

    def _put(self, observation: Trouble | Traced) -> None:
        self.observer.recorder.put(observation)

    def died(self, text: str) -> None:
        """The run ends by an exception: write down what is known. Any thread, at the end."""
        if not self.observer.clock.step:
            return
        self._put(
            Trouble(
                self.desk,
                self.observer.clock.step,
                time.time(),
                "exception",
                "",
                None,
                None,
                None,
                state.random_states(),
                self._facts(),
                0,
                text=_ended_by(text),
            )
        )

    # --- tracing ---------------------------------------------------------------------------------

    def arm_by_command(self, steps: int) -> None:
        """Trace the next attempts because a person asked."""
        step = self.observer.clock.step
        self._put(
            Trouble(
                self.desk,
                step,
                time.time(),
                "command",
                "",
                None,
                None,
                None,
                state.random_states(),
                self._facts(),
                steps,
                text=f"Tracing {steps} attempts after attempt {step}, as asked.",
            )
        )
        self._arm(steps, "command")

    def _arm(self, steps: int, trigger: Trigger) -> None:
        self._trigger = trigger
        self._finished = [False]
        self.tracer.arm(steps, self._names)

    def _names(self) -> Names:
        return names_of(self.observer.registry)

    def _close_trace(self, known: Known, closed: ClosedAttempt) -> None:
        if self._finished[0]:
            self.tracer.disarm()
            return
        self.observer.overhead.spent(self.tracer.spent_s)
        self.tracer.spent_s = 0.0
        trace = self.tracer.close()
        self._put(
            Traced(
                self.desk,
                closed.step,
                time.time(),
                self._trigger,
                known.scope,
                closed,
                trace,
                not self.tracer.armed,
                self._finished,
            )
        )


def _ended_by(what: str) -> str:
    """A sentence of the exception, or the reason, that a run ended by; empty: nobody said.

    An exception is its class and what it said, which may be nothing: `KeyboardInterrupt: `.
    """
    what = what.rstrip().removesuffix(":")
    said = f"The run ended by {what}"[:1999] if what else "The run ended"
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _bad(numbers: Numbers) -> bool:
    """True if the numbers are on the host already and one is not finite."""
    if not numbers.here():
        return False
    found: Sequence[float] = numbers.get()
    return not math.isfinite(sum(found)) and not all(map(math.isfinite, found))
