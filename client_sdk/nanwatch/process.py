"""What the SDK owes to the process it is a guest in: silent forks, children whose end is noticed,
tracebacks without its frames.

No torch, no I/O. Called by `run`; nothing here installs a signal handler, and nothing may.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Protocol

from nanwatch.guard import GUARD
from nanwatch.guards.tally import TALLY
from nanwatch.probes.tensors import CAPTURE

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_CHAINED_MOST = 16
_LAST = -100
"""Among what multiprocessing does at the end of a child: behind queues and children of its own."""


class Silenced(Protocol):
    """A run, as far as a fork is concerned."""

    def silence(self) -> None:
        """Be quiet for good in this process."""
        ...


_alive: weakref.WeakSet[Silenced] = weakref.WeakSet()
_registered = False
_inherited: list[Silenced] = []


def silence_in_forks(run: Silenced) -> None:
    """Silence `run` in every forked child. One fork handler, however often a notebook calls init:
    Python cannot take a handler back."""
    global _registered
    _alive.add(run)
    if not _registered and hasattr(os, "register_at_fork"):
        _registered = True
        os.register_at_fork(after_in_child=_in_child)


def keep(run: Silenced) -> None:
    """Never let go of the parent's run in a forked child: its connection and files are not ours to
    close."""
    _inherited.append(run)


def _in_child() -> None:
    # No lock is taken before this: a thread that is gone may have held any of them.
    GUARD.clear()
    CAPTURE.after_fork()
    TALLY.after_fork()
    for run in list(_alive):
        run.silence()


def forget_half_imports() -> None:
    """In a forked child: what another thread of the parent was just importing stays half made for
    ever, and fails whoever asks for it. What this thread itself imports goes on."""
    importing: set[object] = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            importing.add(frame.f_globals.get("__name__"))
        frame = frame.f_back
    for name, module in list(sys.modules.items()):
        spec = module.__dict__.get("__spec__") if isinstance(module, ModuleType) else None
        if getattr(spec, "_initializing", False) and name not in importing:
            del sys.modules[name]


def at_child_end(call: Callable[[BaseException | None], None]) -> Callable[[], None]:
    """Call with what ends this process, if multiprocessing began it: forked ones leave by
    `os._exit`, without `atexit`, and none shows `sys.excepthook` its exception. Returns what takes
    it back."""
    if multiprocessing.parent_process() is None:
        return lambda: None
    finalizer = multiprocessing.util.Finalize(
        None, lambda: call(sys.exc_info()[1]), exitpriority=_LAST
    )
    return finalizer.cancel


def own_frames(error: BaseException, trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of our wrappers around torch, also in chained errors."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting and len(seen) < _CHAINED_MOST:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _without_ours(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
    return _without_ours(trace)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """All frames if they are all ours: then the error is ours, and must be seen."""
    first = trace
    while first is not None and _is_ours(first):
        first = first.tb_next
    if first is None:
        return trace
    kept = first
    while kept.tb_next is not None:
        if _is_ours(kept.tb_next):
            kept.tb_next = kept.tb_next.tb_next
        else:
            kept = kept.tb_next
    return first


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_PACKAGE)
