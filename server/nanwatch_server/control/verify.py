"""Has an applied command shown in the data? Pure: fed with points, checkpoints and ends of runs.

LR: ten samples in a row after the applied step. Checkpoint: the run reported a file for it. Stop:
the run ended and said it was stopped. Tracing: its forensics arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from nanwatch.contract.frames import Forensics
from nanwatch_server.domain.models import Checkpoint, Command, Run
from nanwatch_server.domain.ports import Store

SAMPLES = 10
TOLERANCE = 1e-6


class LrWatch:
    """Watches the learning rates that one applied LR command set."""

    def __init__(self, command: Command, factors: Mapping[str, float]) -> None:
        if command.applied_step is None:
            raise ValueError(f"expected an applied command, got {command.id} in {command.state}")
        self.command_id = command.id
        self.scope = str(command.args.get("scope", ""))
        self._factor = command.factor
        self._factors = factors
        self._after = command.after
        # Series carry the first parameter group of a scope; the others keep their ratio to it.
        named = factors or command.after
        scopes = [name for name in named if "#" not in name] or [self.scope]
        self._in_a_row = dict.fromkeys(scopes, 0)
        self._seen = dict.fromkeys(scopes, command.applied_step)

    @property
    def done(self) -> bool:
        """True once every scope has shown it."""
        return all(count >= SAMPLES for count in self._in_a_row.values())

    def feed(self, scope: str, steps: np.ndarray, lr: np.ndarray, scheduled: np.ndarray) -> None:
        """Points of one scope, in order."""
        count = self._in_a_row.get(scope)
        if count is None or count >= SAMPLES:
            return
        later = steps > self._seen[scope]  # the same points may come again after a restart
        if not later.any():
            return
        self._seen[scope] = int(steps.max())
        good = self._as_asked(scope, lr[later], scheduled[later])
        bad = np.flatnonzero(~good)
        edges = np.concatenate(([-1], bad, [len(good)]))
        runs = np.diff(edges) - 1
        runs[0] += count
        self._in_a_row[scope] = SAMPLES if runs.max() >= SAMPLES else int(runs[-1])

    def _as_asked(self, scope: str, lr: np.ndarray, scheduled: np.ndarray) -> np.ndarray:
        """Per sample: the factor on the schedule, or the rate the run said it set.

        The second covers scopes with different factors when only one is known (it is the one
        that the store keeps).
        """
        good = np.zeros(len(lr), dtype=bool)
        factor = self._factors.get(scope, self._factor)
        targets = [] if factor is None else [factor * scheduled]
        if scope in self._after and scope not in self._factors:
            targets.append(np.full(len(lr), self._after[scope]))
        for target in targets:
            with np.errstate(invalid="ignore", over="ignore"):
                good |= np.abs(lr - target) <= TOLERANCE * np.abs(target)
        return good & np.isfinite(lr)


class LrWatches:
    """The watches of all runs. Thread-safe; free for a run that has none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, list[LrWatch]] = {}

    def add(self, command: Command, factors: Mapping[str, float]) -> None:
        """Watch an applied LR command, instead of older ones it makes impossible to see."""
        watch = LrWatch(command, factors)
        with self._lock:
            others = self._runs.get(command.run_id, [])
            kept = [old for old in others if watch.scope and old.scope != watch.scope]
            self._runs[command.run_id] = [*kept, watch]

    def feed(
        self, run_id: str, scope: str, steps: np.ndarray, scalars: Mapping[str, np.ndarray]
    ) -> list[str]:
        """Points of one scope; ids of the commands that are verified by now."""
        if run_id not in self._runs or not {"lr", "lr_scheduled"} <= scalars.keys():
            return []
        with self._lock:
            watches = self._runs.pop(run_id, [])
            for watch in watches:
                watch.feed(scope, steps, scalars["lr"], scalars["lr_scheduled"])
            waiting = [watch for watch in watches if not watch.done]
            if waiting:
                self._runs[run_id] = waiting
        return [watch.command_id for watch in watches if watch.done]


def shown(command: Command, store: Store) -> str | None:
    """How it shows in what the run stored that a command other than for LR was done, or None."""
    if command.kind == "stop":
        return stop_seen(store.run(command.run_id))
    if command.kind == "arm_tracing":
        return tracing_seen(command, store.reports(command.run_id, "forensics"))
    return checkpoint_seen(command, store.checkpoints(command.run_id))


def checkpoint_seen(command: Command, checkpoints: Iterable[Checkpoint]) -> str | None:
    """How it shows that the checkpoint of this command lies on disk, or None."""
    saved = next((c for c in checkpoints if c.command_id == command.id), None)
    return None if saved is None else f"saved at step {saved.step}, {saved.bytes} bytes"


def tracing_seen(command: Command, reports: Iterable[Mapping[str, Any]]) -> str | None:
    """How it shows that attempts were traced: the run said what it found in them.

    A run that has only just begun to trace says so too; that shows nothing yet.
    """
    since = command.applied_step
    for report in reports:
        if since is None or report["step"] < since:
            continue
        found = msgspec.msgpack.decode(report["data"], type=Forensics)
        if found.trigger != "command" or not found.tracing_steps:
            return f"what was traced arrived with step {found.step}"
    return None


def stop_seen(run: Run | None) -> str | None:
    """How it shows that the run was stopped, or None."""
    if run is None or run.ended_at is None or "stopped" not in run.end_reason:
        return None
    return f"the run ended: {run.end_reason}"
