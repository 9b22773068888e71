"""The user-facing run: `init`, `watch`, `log`, and the do-nothing run when nanwatch is off.

Composition root of the SDK: builds recorder, probes, control and link, and takes them down again
at exit. Only `init` may raise, and only for a bad argument.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import random
import reprlib
import socket
import sys
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec

import nanwatch
from nanwatch import launch, local_server, process
from nanwatch.config import Control, Options, resolve, script_name
from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.frames import RunInfo
from nanwatch.contract.limits import to_name
from nanwatch.control.actions import Actions
from nanwatch.control.inbox import Inbox, StopTraining
from nanwatch.control.skip_guard import SkipGuard
from nanwatch.forensics.probe import Forensics
from nanwatch.guard import GUARD, guarded
from nanwatch.link.worker import Worker
from nanwatch.probes import finite as finite_values
from nanwatch.probes import given
from nanwatch.probes.discovery import instances
from nanwatch.probes.hooks import Hooks
from nanwatch.probes.observer import Observer
from nanwatch.ranks import Agreement, Identity, claim, release
from nanwatch.record import Recorder

logger = logging.getLogger("nanwatch")


class NullRun:
    """A run that does nothing: nanwatch is off, or this process is a child that does not train."""

    id = ""
    url = ""
    rank = 0
    """Rank of this process in a training of several, once it is known."""

    def watch(self, *modules: Any, main: Any = None, **named: Any) -> None:
        """Nothing."""

    def log(self, values: dict[str, Any] | None = None, /, **named: Any) -> None:
        """Nothing."""

    def finite(self, name: str, value: Any, *, scope: str = "", stage: str = "train") -> None:
        """Nothing."""

    def mark(self, what: str, text: str = "", **data: Any) -> None:
        """Nothing."""

    def resume(self, step: int) -> None:
        """Nothing."""

    def failed(self, error: BaseException) -> None:
        """Nothing."""

    @property
    def stopped_by(self) -> str:
        """Who stopped the training from the page; empty if nobody did."""
        return ""

    def finish(self, reason: str = "", exit_code: int | None = None) -> None:
        """Nothing."""

    def __enter__(self) -> NullRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing."""


class Run(NullRun):
    """A training that is being watched. Make one with `nanwatch.init`."""

    def __init__(self, options: Options, run_id: str) -> None:
        self.id = run_id
        self.options = options
        self.recorder = Recorder()
        self.observer = Observer(self.recorder, options.budget)
        self.inbox = Inbox(options.offer, lambda: self.observer.rates)
        offer = options.offer
        self.observer.scaling.bounds = lambda: offer.lr if offer is not None else None
        self.observer.actions = Actions(
            self.inbox,
            options.data_dir / "checkpoints" / run_id,
            self._optimizers,
            self._stateful,
        )
        if options.guard == "skip":
            self.observer.skip_guard = SkipGuard(self.observer.actions.emergency_checkpoint)
        self.forensics = self.observer.probes.find(Forensics)
        if self.forensics is not None:
            self.forensics.keep_in(options.data_dir / "flight" / run_id, run_id)
        epoch = random.SystemRandom().getrandbits(53)
        self.worker = Worker(
            info=RunInfo(
                id=run_id,
                project=options.project,
                name=options.name,
                started_at=time.time(),
                config=options.config,
                facts=process_facts(),
            ),
            epoch=epoch,
            server=options.server if options.mode == "online" else "",
            token=options.token,
            offer=options.offer,
            recorder=self.recorder,
            inbox=self.inbox,
            spool_directory=options.data_dir / "spool" / f"{run_id}-{epoch:014x}",
            spool_bytes=options.spool_bytes,
            current_step=lambda: self.observer.clock.step,
            overhead=lambda: self.observer.overhead.share,
            sdk=f"nanwatch {nanwatch.__version__}",
            local=local_server.Finder(options.data_dir, options.autostart)
            if options.local
            else None,
            on_welcome=self._welcome,
            agreement=Agreement(
                run_id, options.project, lambda: self.observer.clock.step, own_rank=claim()
            ),
            on_identity=self._settled,
        )
        self.hooks = Hooks(self.observer)
        self._finished = False
        self._pid = os.getpid()
        self._previous_hook: Any = None
        self._cancel_end: Callable[[], None] = lambda: None
        self._failure = ("", None)
        self._resume_refused = False

    def start(self) -> None:
        """Install the probes and start the background thread."""
        self.hooks.install()
        self.worker.keep_hello()
        self.worker.start()
        self._previous_hook = sys.excepthook
        sys.excepthook = self._on_exception
        atexit.register(self._at_exit)
        self._cancel_end = process.at_child_end(self._at_child_end)
        process.silence_in_forks(self)

    def _settled(self, who: Identity) -> ControlOffer | None:
        """Rank and run are known (background thread). Rank 0 leads: it alone takes commands."""
        self.id, self.rank = who.run_id, who.rank
        offer = self.options.offer if who.rank == 0 else None
        if offer is not None and who.group > 1:
            offer = msgspec.structs.replace(offer, world=who.group)
        self.inbox.offer = offer
        return offer

    def _welcome(self, url: str) -> None:
        if url and url != self.url:
            self.url = url
            if self.rank == 0:
                print(f"nanwatch: {url}", file=sys.stderr, flush=True)

    # --- what scripts call -----------------------------------------------------------------------

    def watch(self, *modules: Any, main: Any = None, **named: Any) -> None:
        """Name modules: `run.watch(policy=policy, q1=q1)` makes scopes `policy` and `q1`.

        A list, a dict or a plain object (`run.watch(agent)`) stands for the modules it holds.
        `main` is the optimizer whose attempts are the steps; without it the first that stepped.
        """
        guarded("watch", self._watch, modules, main, named)

    def _watch(self, modules: tuple[Any, ...], main: Any, named: dict[str, Any]) -> None:
        registry = self.observer.registry
        things = [(type(thing).__name__.lower(), thing) for thing in modules]
        for name, thing in [*things, *named.items()]:
            found = given.modules_of(name, thing)
            for inner, module in found.items():
                taken = registry.watched.get(inner, module) is not module
                registry.watched[to_name(f"{name}_{inner}") if taken else inner] = module
            if not found:
                logger.warning("nanwatch: %s", given.unfit(name, thing))
        registry.forget_names()
        if main is not None and hasattr(main, "param_groups"):
            self.observer.clock.set_main(registry.add(main).number)
        elif main is not None:
            logger.warning("nanwatch: %s", given.unfit_main(main))

    def log(self, values: dict[str, Any] | None = None, /, **named: Any) -> None:
        """Record numbers or tensors at the present step; never raises, never waits for a device.

        `run.log(q=q_values, reward=reward)` gives Q and reward statistics; names that are kinds
        (`loss`, `kl`, `entropy`, …) become those, `q1.q_mean` belongs to scope `q1`, and anything
        else is kept under its own name. `scope=` and `stage=` ("train", "val", "test") apply to
        all names of the call. Tensors are reduced to mean, std, min and max. What is no number
        (text, complex numbers, masked elements) is counted and not kept.
        """
        observer = self.observer
        if not observer.enabled:
            return
        try:
            observer.intake.log(values, named)
        except Exception as error:
            GUARD.note("log", error)

    def finite(self, name: str, value: Any, *, scope: str = "", stage: str = "train") -> None:
        """Watch anything for NaN and infinities: never raises, never waits for a device.

        `value`: a tensor, an array or a number, or a dict, list or tuple of them, such as a batch
        from a replay buffer or a context vector. Their non-finite elements are counted as series
        `nonfinite` of layer `name`; the first bad value of an episode is reported.
        """
        if self.observer.enabled:
            guarded("finite", finite_values.watch, self.observer, name, value, scope, stage)

    def mark(self, what: str, text: str = "", **data: Any) -> None:
        """Put a mark on the time axis: `task`, `eval`, `resume` or `note`."""
        guarded("mark", self._mark, what, text, data)

    def _mark(self, what: str, text: str, data: dict[str, Any]) -> None:
        known = what if what in ("task", "eval", "resume", "note") else "note"
        described = {key: str(value)[:500] for key, value in data.items()}
        self.observer.mark(known, str(text or what)[:500], described)

    def resume(self, step: int) -> None:
        """The training goes on from `step` attempts made earlier: 0 to 2**53 - 1, all else is
        ignored with a warning."""
        guarded("resume", self._resume, step)

    def _resume(self, step: int) -> None:
        at = _whole(step)
        if at is not None and self.observer.clock.start_at(at):
            self._mark("resume", f"resumed at {at}", {})
        elif not self._resume_refused:
            self._resume_refused = True
            logger.warning(
                "nanwatch: run.resume expects a whole number from 0 to 2**53 - 1; got %s. It is "
                "ignored, the count of the attempts goes on (told once).",
                reprlib.repr(step),
            )

    def failed(self, error: BaseException) -> None:
        """The training broke off with `error`, which something caught; said when the run ends."""
        guarded("failed", self._note_failure, type(error), error)

    @property
    def stopped_by(self) -> str:
        """Who stopped the training from the page; empty if nobody did."""
        actions = self.observer.actions
        return actions.stopped_by if actions is not None else ""

    def finish(self, reason: str = "", exit_code: int | None = None) -> None:
        """Send what is left and let go of torch. Waits at most two seconds; safe to call twice."""
        if self._finished or os.getpid() != self._pid:
            return
        self._finished = True
        release()
        guarded("coverage", self.observer.telling.at_end)
        self.observer.enabled = False
        guarded("finish", self.hooks.remove)
        self.observer.registry.watched.clear()
        if sys.excepthook == self._on_exception:
            sys.excepthook = self._previous_hook
        failure, code = self._failure
        if not reason and not failure and self.stopped_by:
            failure, code = f"stopped by {self.stopped_by}", 0
        elif self.forensics is not None and (failure or exit_code):
            guarded("flight recorder", self.forensics.died, failure or reason)
        guarded(
            "finish",
            self.worker.stop,
            reason or failure or "finished",
            code if exit_code is None and failure else exit_code,
            self.options.exit_timeout_s,
        )
        atexit.unregister(self._at_exit)
        self._cancel_end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and kind is not None:
            self._note_failure(kind, error)
        self.finish()

    # --- life of the process ---------------------------------------------------------------------

    def _note_failure(self, kind: type[BaseException], error: BaseException) -> None:
        if issubclass(kind, StopTraining):
            return
        try:
            said = str(error)
        except Exception:
            said = "(its text cannot be made)"  # a user's exception whose own text fails
        # A file's name that is not UTF-8 must not keep us from writing down how the run ended.
        said = said[:2000].encode("utf-8", "backslashreplace").decode()
        self._failure = (f"{kind.__name__}: {said}"[:2000], 1)

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if self._finished:  # someone wrapped this hook before we could take it away
            self._previous_hook(kind, error, trace)
            return
        self._note_failure(kind, error)
        if issubclass(kind, StopTraining):
            print(str(error), file=sys.stderr, flush=True)
            if os.environ.get("NANWATCH_LAUNCHED"):
                raise SystemExit(0)  # in an excepthook Python takes it as the exit code
            return
        shown = guarded("traceback", process.own_frames, error, trace)
        self._previous_hook(kind, error, shown or trace)

    def _at_exit(self) -> None:
        """The interpreter ends and nobody has said with which code; a Ctrl-C ends the waiting."""
        try:
            self.finish()
        except KeyboardInterrupt:
            pass

    def _at_child_end(self, error: BaseException | None) -> None:
        """A child of multiprocessing ends, perhaps by an exception."""
        if isinstance(error, SystemExit):
            # `torch.multiprocessing.spawn` hands the exception to the parent and exits with 1.
            error = error.__context__ if error.code else None
        if error is not None:
            self._note_failure(type(error), error)
            guarded("traceback", process.own_frames, error, error.__traceback__)
        self._at_exit()

    def silence(self) -> None:
        """This is a forked child. Most (DataLoader workers) do not train: be silent, hold no lock,
        and only look whether it does."""
        if not self._finished:
            self.hooks.on_training = self._child_trains
        self.observer.enabled = False
        self._finished = True

    def _child_trains(self) -> None:
        """A forked child begins to train: under `nanwatch run` it is a run of its own."""
        import torch

        if _current is not self or torch.utils.data.get_worker_info() is not None:
            return
        if os.environ.get("NANWATCH_LAUNCHED"):
            launch.begin_in_child(self.options)
        else:
            logger.warning(
                "nanwatch: process %d trains and is not watched: it was forked from one that is. "
                "Call nanwatch.init in it, or start the script by `nanwatch run`.",
                os.getpid(),
            )

    def make_way(self) -> None:
        """In a forked child that begins a run of its own: leave torch to that one."""
        if os.getpid() != self._pid:
            self.hooks.on_training = None
            process.keep(self)
            guarded("fork", process.forget_half_imports)
            guarded("fork", self.hooks.remove)

    def _optimizers(self) -> list[tuple[str, Any]]:
        return [
            (known.scope, known.optimizer)
            for known in self.observer.registry.live()
            if self.observer.clock.counts.get(known.number)
        ]

    def _stateful(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        import torch

        registry = self.observer.registry
        modules = {name: ref() for name, ref in registry.roots.items()}
        optimizers = {scope or "optimizer": optimizer for scope, optimizer in self._optimizers()}
        others: dict[str, Any] = {}
        for kind in (torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler):
            for number, found in enumerate(instances(kind)):
                others[f"{type(found).__name__}{number or ''}"] = found
        return {n: m for n, m in modules.items() if m is not None}, optimizers, others


def _whole(value: Any) -> int | None:
    """A number of any type as a whole number; None if it is none."""
    try:
        whole = int(value)
        return whole if whole == value else None
    except Exception:
        return None


def process_facts() -> dict[str, str]:
    """What the page says of the process."""
    torch = sys.modules.get("torch")
    return {
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "script": script_name(),
        "python": platform.python_version(),
        "torch": str(getattr(torch, "__version__", "")),
        "nanwatch": nanwatch.__version__,
    }


_current: NullRun | None = None


def init(
    project: str | None = None,
    *,
    name: str | None = None,
    config: Any = None,
    control: Control | None = None,
    server: str | None = None,
    token: str | None = None,
    mode: str | None = None,
    guard: str | None = None,
) -> NullRun:
    """Start watching this process. Call it once, anywhere before the training loop.

    `project`: default NANWATCH_PROJECT, else "default".
    `config`: dict, namespace or dataclass, shown on the page and used by the diagnosis.
    `control`: what people may do from the page; nothing without it.
    `server`, `token`: default NANWATCH_URL and NANWATCH_TOKEN, then this user's local server,
    which the background thread starts if there is none (NANWATCH_AUTOSTART=0 forbids it).
    `mode`: "online", "offline" (keep on disk) or "off"; default NANWATCH_MODE.
    `guard`: "skip" holds back an update whose gradients are not finite; default NANWATCH_GUARD,
    else "off".

    Raises `ValueError` for a bad argument. Whatever else fails, the training goes on without us.
    """
    global _current
    run_id = uuid.uuid4().hex
    options = resolve(
        project=project,
        name=name,
        config=config,
        control=control,
        server=server,
        token=token,
        mode=mode,
        run_id=run_id,
        guard=guard,
    )
    if isinstance(_current, Run):
        _current.finish()
        _current.make_way()
    if options.mode == "off":
        _current = NullRun()
        return _current
    run: Run | None = None
    try:
        run = Run(options, run_id)
        run.start()
        _current = run
    except Exception as error:
        GUARD.note("init", error)
        if run is not None:
            run.observer.enabled = False
            guarded("init", run.hooks.remove)
        _current = NullRun()
    return _current


def initialised() -> bool:
    """True once `init` was called in this process, also with `mode="off"`."""
    return _current is not None


def current() -> NullRun:
    """The run of this process, or the one that does nothing."""
    return _current if _current is not None else NullRun()


def watch(*modules: Any, main: Any = None, **named: Any) -> None:
    """`watch` of the current run."""
    current().watch(*modules, main=main, **named)


def log(values: dict[str, Any] | None = None, /, **named: Any) -> None:
    """`log` of the current run."""
    current().log(values, **named)


def finite(name: str, value: Any, *, scope: str = "", stage: str = "train") -> None:
    """`finite` of the current run."""
    current().finite(name, value, scope=scope, stage=stage)
