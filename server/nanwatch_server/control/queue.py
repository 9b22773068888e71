"""The command desk: takes commands from people, brings them to runs, follows them to the end.

The store is the truth: every change is a transaction that reads the command, checks the table of
states and writes the command with its audit row. Memory holds only sockets, deadlines and watches;
its lock is never held over a call to the store, because `result` comes inside the store's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import structlog

from nanwatch.contract import frames
from nanwatch.contract.commands import TERMINAL
from nanwatch_server.control import ledger, policy
from nanwatch_server.control.policy import Refused
from nanwatch_server.control.states import IN_FLIGHT, NEXT, UNARMED
from nanwatch_server.control.verify import SAMPLES, LrWatches, shown
from nanwatch_server.control.worker import Worker
from nanwatch_server.domain.models import Command, Principal, Run
from nanwatch_server.domain.ports import RunSession, Store, UnitOfWork

_log = structlog.get_logger(__name__)

Rates = tuple[dict[str, float], dict[str, float]]

SILENT_S = 30.0
"""An armed command without a word from the run is `unknown` this long after its expiry."""

_PROVE_FIRST_S, _PROVE_MAX_S, _PROVE_UNTIL_S = 0.2, 5.0, 3600.0


class Desk:
    """Implements `domain.ports.CommandDesk`; `submit` and `cancel` are for the API."""

    def __init__(
        self,
        store: Store,
        *,
        on_change: Callable[[Command], None] = lambda command: None,
        latest_lr: Callable[[str], Rates] = lambda run_id: ({}, {}),
        median_step: Callable[[str], float | None] = lambda run_id: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._on_change = store, on_change
        self._latest_lr, self._median_step = latest_lr, median_step
        self._clock, self._monotonic = clock, monotonic
        self.worker = Worker(monotonic)
        self._lock = threading.Lock()
        self._sessions: dict[str, RunSession] = {}
        self._deadlines: dict[str, float] = {}
        self._sent: dict[str, RunSession] = {}
        self._watches = LrWatches()

    def start(self) -> None:
        """Pick up what an earlier server left open, then work until `close`."""
        self.recover()
        self.worker.start()

    def recover(self) -> None:
        """Deadlines and watches of all commands that are not at their end."""
        for command in reversed(self._store.commands("", open_only=True)):
            self._resume(command)

    def close(self) -> None:
        """Stop the worker."""
        self.worker.close()

    # --- people -------------------------------------------------------------------------------

    def submit(
        self,
        principal: Principal,
        run_id: str,
        kind: str,
        args: Mapping[str, Any],
        *,
        key: str,
        reason: str = "",
        incident_id: str = "",
        if_lr: str = "",
    ) -> tuple[Command, bool]:
        """The command, and whether it is new (else the key was used before). Raises `Refused`.

        `if_lr`: the learning rate that the person saw; another one in force refuses the command.
        """
        policy.check_texts(key, reason)
        cleaned = policy.clean_args(kind, args)
        run = self._store.run(run_id)
        if run is None:
            raise Refused("not_found", f"there is no run {run_id[:64]!r}")
        rates, now, session = self._latest_lr(run_id), self._clock(), self._session(run_id)
        command = ledger.drafted(
            principal,
            run_id,
            kind,
            cleaned,
            now=now,
            ttl_s=policy.ttl_s(kind, self._median_step(run_id)),
            epoch=-1 if session is None else session.epoch,
            key=key,
            reason=reason,
            incident_id=incident_id,
        )
        try:
            with self._store.write() as uow:
                stored = uow.insert_command(command)
                if stored.id != command.id:
                    return policy.same_request(stored, command), False
                policy.check_seen(if_lr, cleaned, rates[0])
                replaced = self._admit(uow, principal, run, command, rates)
                ledger.record(uow, command, now, ledger.person(principal), "queued", {})
                # Before others can see it: a run that connects just now asks how long is left.
                self._set_deadline(command)
        except Refused as refused:
            self._note_refusal(principal, command, refused)
            raise
        for old in replaced:
            self._taken_back(old)
        self._publish(command)
        self.worker.soon(lambda: self._deliver(command.id))
        return command, True

    def cancel(self, principal: Principal, command_id: str) -> Command:
        """Take a command back before it is armed. Raises `Refused`."""
        by = ledger.person(principal)
        with self._store.write() as uow:
            command = uow.command(command_id)
            if command is None:
                raise Refused("not_found", f"there is no command {command_id[:64]!r}")
            if command.state == "cancelled":
                return command
            if command.state not in UNARMED:
                raise Refused(
                    "conflict",
                    f"only a queued or delivered command can be cancelled: it is {command.state}",
                )
            command = ledger.move(uow, command, "cancelled", self._clock(), by)
        self._taken_back(command)
        return command

    def _admit(
        self, uow: UnitOfWork, principal: Principal, run: Run, command: Command, rates: Rates
    ) -> list[Command]:
        """Check everything that may stand against it; the commands it replaces."""
        policy.check(principal, run, command.kind, command.args, rates)
        if self._session(run.id) is None:
            raise Refused(
                "not_connected",
                f"run {run.name} is not connected, so nothing can be sent to it: expected a live "
                "run; try again when it shows as live",
            )
        new, replaced = policy.knob(command), []
        for old in self._store.commands(run.id, open_only=True):
            if old.state not in IN_FLIGHT or not policy.overlaps(new, policy.knob(old)):
                continue
            if old.state not in UNARMED or not policy.supersedes(new, policy.knob(old)):
                raise Refused(
                    "conflict",
                    f"{old.kind} of {old.actor} is on its way ({old.state}): wait until the run "
                    "has answered it, or cancel it while it is not armed",
                )
            detail, by = f"by {command.id}", ledger.person(principal)
            replaced.append(ledger.move(uow, old, "superseded", command.created_at, by, detail))
        return replaced

    def _note_refusal(self, principal: Principal, command: Command, refused: Refused) -> None:
        with self._store.write() as uow:
            by, more = ledger.person(principal), {"code": refused.code, "why": str(refused)}
            ledger.record(uow, command, self._clock(), by, "refused", more)

    # --- the run's connection -----------------------------------------------------------------

    def run_connected(self, run_id: str, session: RunSession) -> None:
        """Commands go to this connection from now on; what is still in time is sent again."""
        with self._lock:
            self._sessions[run_id] = session
        self.worker.soon(lambda: self._send_open(run_id))

    def run_gone(self, run_id: str, session: RunSession) -> None:
        """The connection ended. An older connection than the current one changes nothing."""
        with self._lock:
            if self._sessions.get(run_id) is not session:
                return
            del self._sessions[run_id]
        self.worker.soon(lambda: self._lose(run_id))

    def accepted(self, run_id: str, command_id: str, nonce: int) -> None:
        """The run would apply the command: let it, if there is time left."""
        self.worker.soon(lambda: self._arm(run_id, command_id, nonce))

    def result(self, uow: UnitOfWork, run_id: str, result: frames.CommandResult) -> Command | None:
        """The run's last word, in the transaction of its record; None if it changes nothing."""
        command = uow.command(result.id)
        if command is None or command.run_id != run_id:
            _log.warning("result of a command that is not the run's", run=run_id)
            return None
        now, state, message = self._clock(), result.state, result.message
        if command.state == state or (command.state == "verified" and state == "applied"):
            return None
        if command.state in TERMINAL and state != "applied":
            return None  # taken back or expired meanwhile; both sides agree that nothing was done
        if command.state == "queued" and state != "applied":
            # The run was faster than our own note that the frame is on its way.
            command = ledger.move(uow, command, "delivered", now, ledger.SERVER)
        if command.state == "unknown" and state in ("rejected", "expired"):
            state, message = "failed", f"{state}: {message}" if message else state
        if state not in NEXT[command.state]:
            ledger.record(
                uow, command, now, ledger.RUN, "contradiction", {"said": state, "at": result.step}
            )
            _log.warning("contradicting result", command=command.id, is_=command.state, said=state)
            return None
        applied = state == "applied"
        changed = ledger.move(
            uow,
            command,
            state,
            now,
            ledger.RUN,
            message,
            message=message,
            applied_step=result.step if applied else None,
            before=dict(result.before),
            after=dict(result.after),
            factor=result.factor if applied and command.kind.endswith("_lr") else None,
        )
        # Told to the page and watched only once the caller's transaction is through.
        self.worker.soon(lambda: self._settled(changed.id, result.factors))
        return changed

    def observe(
        self, run_id: str, scope: str, steps: np.ndarray, scalars: dict[str, np.ndarray]
    ) -> None:
        """Points of a block that has `lr`; free while nothing is to be verified."""
        for command_id in self._watches.feed(run_id, scope, steps, scalars):
            self.worker.soon(partial(self._verified, command_id))

    # --- jobs of the worker -------------------------------------------------------------------

    def _deliver(self, command_id: str) -> None:
        command = self._store.command(command_id)
        session = None if command is None else self._session(command.run_id)
        if command is None or session is None or command.state not in UNARMED:
            return
        if command.epoch not in (-1, session.epoch):
            self._step(command_id, UNARMED, "expired", "the process it was for has ended")
            return
        left = self._left(command)
        if left <= 0:
            self._expire(command_id)
            return
        with self._lock:
            if self._sent.get(command_id) is session:
                return
            self._sent[command_id] = session
        session.send(
            frames.Command(
                id=command.id,
                kind=command.kind,
                args=command.args,
                expires_in=left,
                actor=command.actor,
            )
        )
        self._step(command_id, {"queued"}, "delivered")

    def _arm(self, run_id: str, command_id: str, nonce: int) -> None:
        command, session = self._store.command(command_id), self._session(run_id)
        if command is None or command.run_id != run_id or session is None:
            return
        if self._left(command) <= 0:
            self._expire(command_id)
            return
        # Written before `go`: after a crash the page says unknown, never "not armed".
        if self._step(command_id, {"delivered"}, "armed") is None:
            return
        left = self._left(command)
        if left <= 0:
            self._step(command_id, {"armed"}, "expired", "ran out while it was being armed")
            session.send(frames.Revoke(id=command_id))
            return
        session.send(frames.Go(id=command_id, nonce=nonce, expires_in=left))

    def _expire(self, command_id: str) -> None:
        expired = self._step(command_id, UNARMED, "expired", "the run did not take it in time")
        if expired is not None:
            self._revoke(expired)

    def _lose(self, run_id: str) -> None:
        for command in self._store.commands(run_id, open_only=True):
            self._step(command.id, {"armed"}, "unknown", "the connection ended")

    def _send_open(self, run_id: str) -> None:
        for command in reversed(self._store.commands(run_id, open_only=True)):
            self._deliver(command.id)

    def _settled(self, command_id: str, factors: dict[str, float]) -> None:
        with self._store.write() as uow:  # waits for the transaction that `result` was part of
            command = uow.command(command_id)
        if command is None:
            return
        self._publish(command)
        if command.state == "applied":
            self._watch(command, factors)

    def _verified(self, command_id: str) -> None:
        self._step(command_id, {"applied"}, "verified", f"{SAMPLES} samples in a row show it")

    def _prove(self, command_id: str, wait: float, until: float) -> None:
        command = self._store.command(command_id)
        if command is None or command.state != "applied" or self._monotonic() > until:
            return
        seen = shown(command, self._store)
        if seen is not None:
            self._step(command_id, {"applied"}, "verified", seen)
            return
        longer = min(wait * 2, _PROVE_MAX_S)
        self.worker.at(self._monotonic() + wait, lambda: self._prove(command_id, longer, until))

    # --- small parts --------------------------------------------------------------------------

    def _step(
        self, command_id: str, expected: set[str] | frozenset[str], state: str, detail: str = ""
    ) -> Command | None:
        """Move the command if it still is where we think; None if it has moved on meanwhile."""
        with self._store.write() as uow:
            command = uow.command(command_id)
            if command is None or command.state not in expected:
                return None
            command = ledger.move(uow, command, state, self._clock(), ledger.SERVER, detail)
        self._publish(command)
        return command

    def _resume(self, command: Command) -> None:
        if command.state in UNARMED:
            self._set_deadline(command)
        elif command.state == "armed":
            self._step(command.id, {"armed"}, "unknown", "the server was restarted")
        elif command.state == "applied":
            self._watch(command)

    def _watch(self, command: Command, factors: Mapping[str, float] = {}) -> None:
        if not command.kind.endswith("_lr"):
            until = self._monotonic() + _PROVE_UNTIL_S
            self._prove(command.id, _PROVE_FIRST_S, until)
            return
        self._watches.add(command, factors)

    def _set_deadline(self, command: Command) -> None:
        deadline = self._monotonic() + (command.expires_at - self._clock())
        with self._lock:
            self._deadlines[command.id] = deadline
        self.worker.at(deadline, lambda: self._expire(command.id))
        self.worker.at(deadline + SILENT_S, lambda: self._forget(command.id))

    def _forget(self, command_id: str) -> None:
        """Past its time for good: an armed command without an answer is of unknown fate."""
        with self._lock:
            self._deadlines.pop(command_id, None)
            self._sent.pop(command_id, None)
        self._step(command_id, {"armed"}, "unknown", "the run did not answer")

    def _left(self, command: Command) -> float:
        with self._lock:
            deadline = self._deadlines.get(command.id)
        return 0.0 if deadline is None else deadline - self._monotonic()

    def _session(self, run_id: str) -> RunSession | None:
        with self._lock:
            return self._sessions.get(run_id)

    def _taken_back(self, command: Command) -> None:
        self._revoke(command)
        self._publish(command)

    def _revoke(self, command: Command) -> None:
        # Also for one that is only queued: its frame may be on the way already.
        session = self._session(command.run_id)
        if session is not None:
            session.send(frames.Revoke(id=command.id))

    def _publish(self, command: Command) -> None:
        try:
            self._on_change(command)
        except Exception:
            _log.exception("a listener of commands failed", command=command.id)
