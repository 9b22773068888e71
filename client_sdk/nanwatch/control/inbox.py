"""Commands between the background thread, which receives them, and the training thread.

Delivered → accepted (nonce) → armed by `go` → applied at the close of an attempt. Every command
ends in exactly one result; a repeated command is never applied twice. No torch here.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from nanwatch.contract.commands import ControlOffer, refusal
from nanwatch.contract.frames import Accepted, Command, CommandResult, Go, Record, Revoke
from nanwatch.contract.limits import GO_WINDOW_S
from nanwatch.guard import GUARD

COMMANDS_REMEMBERED = 10_000
WAITING_MOST = 100


class StopTraining(KeyboardInterrupt):
    """Raised at the close of an attempt after a granted `stop`: the one raise into the training.

    A KeyboardInterrupt, so that loops that catch `Exception` to survive bad batches end too.
    """


def boot_clock_s() -> float:
    """Seconds that also count while the machine sleeps: an old command must not wake with it."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


@dataclass(slots=True)
class Waiting:
    """A command that the run has accepted and not applied yet."""

    command: Command
    deadline_s: float
    nonce: int
    accepted_s: float


Deferred = Callable[[], list[Record]]


class Inbox:
    """Hand-over of commands and results. Locks are held for microseconds, never over I/O."""

    def __init__(
        self,
        offer: ControlOffer | None,
        rates: Callable[[], tuple[dict[str, float], dict[str, float]]],
        clock: Callable[[], float] = boot_clock_s,
    ) -> None:
        self.offer = offer
        self._rates = rates
        """(learning rates in force, learning rates scheduled), by scope."""
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, Waiting] = {}
        self._armed: deque[Waiting] = deque()
        self._seen: dict[str, bool] = {}
        """Command id → has a result."""
        self._results: deque[CommandResult | Deferred] = deque()
        self._frames: deque[Accepted] = deque()

    # --- background thread -----------------------------------------------------------------------

    def receive(self, frame: Command | Go | Revoke) -> None:
        """Take a frame from the server."""
        if isinstance(frame, Command):
            self._offered(frame)
        elif isinstance(frame, Go):
            self._go(frame)
        else:
            with self._lock:
                self._waiting.pop(frame.id, None)

    def _offered(self, command: Command) -> None:
        with self._lock:
            if self._seen.get(command.id):
                return
            waiting = self._waiting.get(command.id)
            if waiting is not None:
                waiting.accepted_s = self._clock()
                self._frames.append(Accepted(id=command.id, nonce=waiting.nonce))
                return
            if any(armed.command.id == command.id for armed in self._armed):
                return
        now, scheduled = self._rates()
        refused = refusal(self.offer, command.kind, dict(command.args), now, scheduled)
        with self._lock:
            crowded = len(self._waiting) >= WAITING_MOST
        if refused is None and crowded:
            refused = "too many commands wait already"
        if refused is not None:
            # Not remembered: refusing twice does no harm, forgetting an applied one would.
            result = CommandResult(
                id=command.id, state="rejected", time=time.time(), message=refused
            )
            with self._lock:
                self._results.append(result)
            return
        with self._lock:
            self._remember(command.id, False)
            at = self._clock()
            waiting = Waiting(command, at + command.expires_in, secrets.randbits(52), at)
            self._waiting[command.id] = waiting
            self._frames.append(Accepted(id=command.id, nonce=waiting.nonce))

    def _go(self, go: Go) -> None:
        with self._lock:
            waiting = self._waiting.get(go.id)
            if waiting is None or waiting.nonce != go.nonce:
                return
            del self._waiting[go.id]
            now = self._clock()
            late = now > waiting.deadline_s or now > waiting.accepted_s + GO_WINDOW_S
            if go.expires_in > 0:
                # The command frame may have lain in a socket for long; this one is fresh.
                waiting.deadline_s = min(waiting.deadline_s, now + go.expires_in)
            if not late:
                self._armed.append(waiting)
        if late:
            self.finish(go.id, "expired", message="the order to go came too late")

    def disconnected(self) -> None:
        """Accepted but not armed: the server offers them again when it is back, if still valid."""
        with self._lock:
            self._waiting.clear()
            self._frames.clear()

    def take_frames(self) -> list[Accepted]:
        """Answers to send."""
        if not self._frames:
            return []
        with self._lock:
            frames = list(self._frames)
            self._frames.clear()
        return frames

    def take_results(self) -> list[Record]:
        """Results to record; runs what was left to the background (hashing a checkpoint)."""
        if self._armed:
            self._expire()
        records: list[Record] = []
        while self._results:
            item = self._results.popleft()  # nobody else takes any
            if isinstance(item, CommandResult):
                records.append(item)
                continue
            try:
                records.extend(item())
            except Exception as error:
                GUARD.note("command", error)
        return records

    def _expire(self) -> None:
        """An armed command whose attempt never closes must not wait for ever."""
        now = self._clock()
        with self._lock:
            late = [armed for armed in self._armed if now > armed.deadline_s]
            for armed in late:
                self._armed.remove(armed)
        for armed in late:
            self.finish(
                armed.command.id, "expired", message="no attempt closed before the command expired"
            )

    # --- training thread -------------------------------------------------------------------------

    @property
    def armed(self) -> bool:
        """True if something waits to be applied. Costs nothing."""
        return bool(self._armed)

    def take_armed(self) -> list[Command]:
        """Armed commands that are still in time, stop last; late ones get their result here."""
        with self._lock:
            taken = list(self._armed)
            self._armed.clear()
        now = self._clock()
        due: list[Command] = []
        for waiting in taken:
            if now > waiting.deadline_s:
                self.finish(waiting.command.id, "expired", message="expired before it was applied")
            else:
                due.append(waiting.command)
        return sorted(due, key=lambda command: command.kind == "stop")

    def put_result(self, result: CommandResult) -> None:
        """The one result of a command."""
        with self._lock:
            self._remember(result.id, True)
            self._results.append(result)

    def later(self, work: Deferred) -> None:
        """Leave slow work to the background thread."""
        with self._lock:
            self._results.append(work)

    def finish(self, command_id: str, state: str, *, step: int = -1, message: str = "") -> None:
        """A result without numbers."""
        self.put_result(
            CommandResult(
                id=command_id,
                state=state,  # type: ignore[arg-type]
                time=time.time(),
                step=step,
                message=message,
            )
        )

    def _remember(self, command_id: str, finished: bool) -> None:
        self._seen[command_id] = finished
        while len(self._seen) > COMMANDS_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
