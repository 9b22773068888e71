"""Applies armed commands at the close of an attempt, and says what came of each.

Training thread only; called by the clock however the attempt closed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanwatch.contract.commands import ranks_refusal, refusal
from nanwatch.contract.frames import Command, CommandResult, Record
from nanwatch.control import checkpoint
from nanwatch.control.holding import nonfinite_flag
from nanwatch.control.inbox import Inbox, StopTraining
from nanwatch.control.learning_rate import (
    factor_of,
    rates_of,
    set_factor,
    wanted_factors,
)
from nanwatch.guard import GUARD
from nanwatch.probes import sharded
from nanwatch.probes.tensors import is_tensor
from nanwatch.ranks import group_now

TRACING_ATTEMPTS = 50
"""Attempts that `arm_tracing` traces unless it says more (incident 000 asks for 50)."""

ROOM_LEFT = 3
"""An emergency checkpoint is written only where this many of its kind would fit."""

Named = dict[str, Any]


class Actions:
    """What the granted commands do to this training."""

    def __init__(
        self,
        inbox: Inbox,
        directory: Path,
        optimizers: Callable[[], list[tuple[str, Any]]],
        stateful: Callable[[], tuple[Named, Named, Named]],
    ) -> None:
        self._inbox = inbox
        self._directory = directory
        self._optimizers = optimizers
        """(scope, optimizer) of every optimizer in use."""
        self._stateful = stateful
        """(modules, optimizers, schedulers and scalers) by name."""
        self.stopped_by = ""
        self.arm_tracing: Callable[[int], None] | None = None
        """Traces that many attempts from the next one on."""

    @property
    def waiting(self) -> bool:
        """True if a command is armed."""
        return self._inbox.armed

    def rates(self) -> tuple[dict[str, float], dict[str, float]]:
        """(in force, scheduled) learning rates by scope, outside a step."""
        now: dict[str, float] = {}
        scheduled: dict[str, float] = {}
        for scope, optimizer in self._optimizers():
            now.update(rates_of(scope, optimizer, scheduled=False))
            scheduled.update(rates_of(scope, optimizer, scheduled=True))
        return now, scheduled

    def apply_due(self, step: int) -> StopTraining | None:
        """Apply what is armed. Returns the exception to raise after a granted stop."""
        stop: StopTraining | None = None
        for command in self._inbox.take_armed():
            try:
                stop = self._apply(command, step) or stop
            except Exception as error:
                self._inbox.finish(
                    command.id, "failed", step=step, message=f"{type(error).__name__}: {error}"
                )
                GUARD.note("command", error)
        return stop

    def _apply(self, command: Command, step: int) -> StopTraining | None:
        now, scheduled = self.rates()
        refused = refusal(self._inbox.offer, command.kind, dict(command.args), now, scheduled)
        if refused is None:
            refused = self._rank_refusal(command.kind)
        if refused is not None:
            self._inbox.finish(command.id, "rejected", step=step, message=refused)
            return None
        if command.kind in ("set_lr", "scale_lr"):
            self._change_rate(command, step, now)
            return None
        if command.kind == "checkpoint":
            path = self._save(command.id, step)
            self._inbox.finish(command.id, "applied", step=step, message=f"saved {path}")
            return None
        if command.kind == "arm_tracing":
            self._trace(command, step)
            return None
        return self._stop(command, step)

    def _rank_refusal(self, kind: str) -> str | None:
        """Whatever was offered: what splits the ranks, or hangs one of them, is not done."""
        group = group_now()
        if group is None or group[1] == 1:
            return None
        if kind == "checkpoint":
            return sharded.why_one_rank_cannot_save(*self._stateful()[:2]) or None
        return ranks_refusal(kind, group[1]) or None

    def _trace(self, command: Command, step: int) -> None:
        steps = int(command.args.get("steps", TRACING_ATTEMPTS))
        if self.arm_tracing is None:
            raise RuntimeError("tracing is off in this run: see what the coverage says of it")
        self.arm_tracing(steps)
        message = f"tracing the next {steps} attempts"
        self._inbox.finish(command.id, "applied", step=step, message=message)

    def _change_rate(self, command: Command, step: int, before: dict[str, float]) -> None:
        scope = str(command.args.get("scope", ""))
        chosen = [(name, opt) for name, opt in self._optimizers() if not scope or name == scope]
        value = command.args["lr" if command.kind == "set_lr" else "factor"]
        changes = wanted_factors(command.kind, float(value), chosen)
        if not changes:
            raise RuntimeError("no optimizer with a learning rate above 0 is in use yet")
        for _, optimizer, factor in changes:
            set_factor(optimizer, factor)
        after, _ = self.rates()
        names = {name for name, _, _ in changes}
        self._inbox.put_result(
            CommandResult(
                id=command.id,
                state="applied",
                time=time.time(),
                step=step,
                before={k: v for k, v in before.items() if k.split("#")[0] in names},
                after={k: v for k, v in after.items() if k.split("#")[0] in names},
                factor=factor_of(changes[0][1]),
                factors={name: factor for name, _, factor in changes},
            )
        )

    def emergency_checkpoint(self, step: int) -> Path | None:
        """Save everything before an update that is being held; None if that would be of no use.

        Only with healthy weights, with room for it on the disk, and where this rank can save
        alone. Blocks for as long as writing takes, at most a few times in a run.
        """
        group = group_now()
        if self._rank_refusal("checkpoint") is not None or (group is not None and group[0] > 0):
            return None
        modules, optimizers, _ = self._stateful()
        tensors = [t for m in modules.values() for t in [*m.parameters(), *m.buffers()]]
        floating = [t for t in tensors if t.is_floating_point()]
        if not floating or bool(nonfinite_flag(floating)):
            return None
        states = [state for opt in optimizers.values() for state in opt.state.values()]
        tensors += [t for state in states if isinstance(state, dict) for t in state.values()]
        needed = sum(t.numel() * t.element_size() for t in tensors if is_tensor(t))
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if shutil.disk_usage(self._directory).free < ROOM_LEFT * needed:
            return None
        return self._save("", step, "emergency")

    def _save(self, command_id: str, step: int, name: str = "step") -> Path:
        modules, optimizers, others = self._stateful()
        if not modules and not optimizers:
            raise RuntimeError("no module or optimizer has been found yet")
        path = checkpoint.save(self._directory, step, modules, optimizers, others, name)

        def describe() -> list[Record]:
            return [checkpoint.report(path, step, command_id)]

        self._inbox.later(describe)
        return path

    def _stop(self, command: Command, step: int) -> StopTraining:
        message = "stopped"
        if (
            command.args.get("checkpoint", True)
            and self._inbox.offer
            and self._inbox.offer.checkpoint
        ):
            try:
                message = f"stopped after saving {self._save(command.id, step)}"
            except Exception as error:
                GUARD.note("checkpoint", error)
                message = f"stopped; the checkpoint failed: {error}"
        self.stopped_by = command.actor or "the page"
        self._inbox.finish(command.id, "applied", step=step, message=message)
        return StopTraining(f"nanwatch: {message}, at attempt {step}, asked by {self.stopped_by}")
