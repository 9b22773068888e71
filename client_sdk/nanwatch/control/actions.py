"""Applies armed commands at the close of an attempt, and says what came of each.

Training thread only; called by the clock however the attempt closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanwatch.contract.commands import refusal
from nanwatch.contract.frames import Command, CommandResult, Record
from nanwatch.control import checkpoint
from nanwatch.control.inbox import Inbox, StopTraining
from nanwatch.control.learning_rate import (
    factor_of,
    rates_of,
    set_factor,
    wanted_factors,
)
from nanwatch.guard import GUARD

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
        return self._stop(command, step)

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

    def _save(self, command_id: str, step: int) -> Path:
        modules, optimizers, others = self._stateful()
        if not modules and not optimizers:
            raise RuntimeError("no module or optimizer has been found yet")
        path = checkpoint.save(self._directory, step, modules, optimizers, others)

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
