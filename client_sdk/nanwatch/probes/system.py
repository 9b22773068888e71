"""The machine around the training: throughput, memory, the accelerator, waiting for data.

All but the wait is sampled on the background thread, which asks `sample` before it drains the
recorder: the driver's answers may take milliseconds. The wait is the time inside `next()` of
torch's DataLoader on the training thread, while gradients are on (validation is not waited for).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nanwatch.contract.frames import NonFinite
from nanwatch.probes.passes import Found, Value
from nanwatch.probes.probe import Columns, Measured, Probe
from nanwatch.probes.tensors import EMPTY, Numbers

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

INTERVAL_S = 5.0
MIB = 1 << 20
_STATM = Path("/proc/self/statm")


class System(Probe):
    """Throughput, memory, accelerator; time spent waiting for data."""

    name: ClassVar[str] = "system"
    share: ClassVar[float] = 0.01

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        self._waited_s = 0.0
        self._waiting = False
        self._fetched = False
        self._columns = Columns([("data_time", "", "")])
        self._undo: Callable[[], None] | None = None
        self._sampled_at = float("-inf")
        self._sampled_step = 0
        self._device: Any = None
        """Device of the parameters, for the background thread."""
        self._gpu_off = ""

    def install(self) -> None:
        """Time the DataLoader; have the background thread sample."""
        self.observer.recorder.samplers.append(self.sample)
        self._time_loaders()

    def remove(self) -> None:
        """Put the DataLoader back."""
        if self.sample in self.observer.recorder.samplers:
            self.observer.recorder.samplers.remove(self.sample)
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def named(self) -> None:
        """The accelerator that is watched is that of the first parameter on one."""
        for known in self.observer.registry.live():
            for parameter in known.parameters():
                if parameter.device.type in ("cuda", "mps"):
                    self._device = parameter.device
                    return

    def closed(self, known: Known, attempt: Attempt) -> None:
        """The wait since the attempt before."""
        if not attempt.is_main or not self._fetched:
            return
        waited_s, self._waited_s, self._fetched = self._waited_s, 0.0, False
        self.observer.recorder.put(
            Measured(attempt.step, time.time(), self._columns, Numbers([waited_s]), "data wait")
        )

    # --- waiting for data ------------------------------------------------------------------------

    def _time_loaders(self) -> None:
        """Wrap `__next__` of every DataLoader iterator, once, in their common base class."""
        from torch import is_grad_enabled
        from torch.utils.data import dataloader

        base: Any = getattr(dataloader, "_BaseDataLoaderIter", None)
        original = getattr(base, "__next__", None)
        if original is None:
            return
        observer = self.observer

        def __next__(iterator: Any) -> Any:
            if self._waiting or not observer.enabled or not is_grad_enabled():
                return original(iterator)
            if observer.thread not in (None, threading.current_thread()):
                return original(iterator)
            self._waiting = True
            started = time.perf_counter()
            try:
                return original(iterator)
            finally:
                self._waiting = False
                self._fetched = True
                self._waited_s += time.perf_counter() - started

        __next__.__wrapped__ = original  # type: ignore[attr-defined]
        __next__.__doc__ = original.__doc__
        base.__next__ = __next__

        def undo() -> None:
            # Someone may have wrapped us since: then leave the chain, ours is asleep anyway.
            if base.__next__ is __next__:
                base.__next__ = original

        self._undo = undo

    # --- background thread -----------------------------------------------------------------------

    def sample(self) -> None:
        """A sample every few seconds, as long as the training goes on."""
        now, step = time.monotonic(), self.observer.clock.step
        elapsed_s = now - self._sampled_at
        if elapsed_s < INTERVAL_S or step <= self._sampled_step or not self.observer.enabled:
            return
        values: list[Value] = []
        if self._sampled_step:
            values.append(("throughput", "", (step - self._sampled_step) / elapsed_s))
        self._sampled_at, self._sampled_step = now, step
        resident = resident_mib()
        if resident is not None:
            values.append(("memory", "", resident))
        values.extend(self._accelerator())
        self.observer.recorder.put(
            Found(step, time.time(), "", "system", EMPTY, lambda _: _as_they_are(values))
        )

    def _accelerator(self) -> list[Value]:
        torch, device = sys.modules.get("torch"), self._device
        if torch is None or device is None:
            return []
        if device.type == "mps":
            return [("gpu_memory", "", torch.mps.current_allocated_memory() / MIB)]
        values = [("gpu_memory", "", torch.cuda.memory_allocated(device) / MIB)]
        if not self._gpu_off and importlib.util.find_spec("pynvml") is None:
            self._gpu_off = "no GPU utilisation and temperature: install nvidia-ml-py"
        if not self._gpu_off:
            try:
                values.append(("gpu_utilization", "", float(torch.cuda.utilization(device))))
                values.append(("gpu_temperature", "", float(torch.cuda.temperature(device))))
            except Exception as error:
                # No driver for it, a MIG slice, a container without the library.
                self._gpu_off = f"no GPU utilisation and temperature: {type(error).__name__}"
        return values

    def coverage(self) -> str:
        """Interval, and what is missing."""
        text = f"every {INTERVAL_S:.0f} s"
        return f"{text}, {self._gpu_off}" if self._gpu_off else text


def _as_they_are(values: list[Value]) -> tuple[list[Value], NonFinite | None]:
    return values, None


def resident_mib() -> float | None:
    """Resident memory of this process in MiB; None where the system has no `/proc`."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB
