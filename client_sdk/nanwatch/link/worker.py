"""The one background thread: drains what probes saw, spools it, sends it, receives commands.

A daemon thread, started once by `run.init`, ended by `stop` within its timeout. It owns the
catalog, the outbox and the connection; the training thread never waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from nanwatch.contract import frames
from nanwatch.contract.commands import ControlOffer
from nanwatch.contract.frames import LANES, Lane, Record
from nanwatch.contract.limits import (
    BEAT_INTERVAL_S,
    CREDIT_BATCHES,
    GO_WINDOW_S,
    PROTOCOL_VERSION,
)
from nanwatch.control.inbox import Inbox
from nanwatch.guard import GUARD
from nanwatch.link.box import Box, End
from nanwatch.link.connection import Backoff, Connection, Refused
from nanwatch.link.outbox import SPOOL_FULL, Outbox
from nanwatch.link.pace import INTERVAL_S, Alarm, Pace
from nanwatch.link.upload import Leftovers
from nanwatch.local_server import Finder
from nanwatch.ranks import Agreement, Identity
from nanwatch.record import Recorder

logger = logging.getLogger("nanwatch")

INTERVAL_OFFLINE_S = 0.5
DEAF_MOST_S = 0.05
"""While an ack is due nobody listens: waking up for it would cost as much as a frame. A command
must not wait longer than this for being heard."""
UNCOMMANDED_S = 0.25
"""A run that takes no commands reads its acks this often."""
FSYNC_INTERVAL_S = 1.0
SETTLE_LAST_S = 0.7
"""What the ranks have not agreed on this long before the end stays open."""
SETTLE_PAUSE_S = 0.05


class Worker:
    """Background thread of one run."""

    def __init__(
        self,
        *,
        info: frames.RunInfo,
        epoch: int,
        server: str,
        token: str,
        offer: ControlOffer | None,
        recorder: Recorder,
        inbox: Inbox,
        spool_directory: Path,
        spool_bytes: int,
        current_step: Callable[[], int],
        overhead: Callable[[], float],
        sdk: str,
        on_welcome: Callable[[str], None],
        agreement: Agreement,
        on_identity: Callable[[Identity], ControlOffer | None],
        local: Finder | None = None,
    ) -> None:
        self._info, self._epoch, self._offer = info, epoch, offer
        self._server, self._token, self._sdk = server, token, sdk
        self._recorder, self._inbox = recorder, inbox
        self._current_step, self._overhead = current_step, overhead
        self._on_welcome = on_welcome
        self._agreement, self._on_identity = agreement, on_identity
        self._who: Identity | None = None
        """Rank and run, once they are known; until then everything stays on the disk."""
        self._local = local
        """Finds or starts the user's own server, where none was named."""
        self._box = Box(spool_directory)
        self._leftovers = Leftovers(spool_directory.parent.parent, spool_directory)
        self.outbox = Outbox(
            spool_directory,
            spool_bytes,
            lambda: frames.encode(self._hello()),
            recorder.count_drop,
        )
        self._connection: Connection | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._credit = CREDIT_BATCHES
        self._hold_until = 0.0
        self._pace = Pace()
        self._listened_at = 0.0
        self._listen_until = 0.0
        """A command was offered, and its `go` follows soon."""
        self._collected_at = self._beat_at = self._synced_at = 0.0
        self._stop = threading.Event()
        self._alarm = Alarm()
        self._deadline = float("inf")
        self._bye: tuple[str, int | None] | None = None
        self._told: set[str] = set()
        self._sending = False
        """True while the thread may hang in a send."""
        self.connected = threading.Event()
        self.thread = threading.Thread(target=self._main, name="nanwatch", daemon=True)

    # --- called by the training thread -----------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self, reason: str, exit_code: int | None, timeout_s: float) -> None:
        """Flush what can be flushed within `timeout_s` and end."""
        self._deadline = time.monotonic() + timeout_s - 0.3
        self._bye = (reason, exit_code)
        self._stop.set()
        self._alarm.ring()
        self.thread.join(timeout_s * 0.4)
        connection = self._connection
        if self.thread.is_alive() and self._sending and connection is not None:
            # A server that stopped reading: what is still in memory must reach the disk.
            connection.abort()
        self.thread.join(timeout_s * 0.6)

    # --- the thread ------------------------------------------------------------------------------

    def _main(self) -> None:
        while not self._stop.is_set():
            self._round()
        self._finish()

    def _round(self) -> None:
        try:
            self._pace.begin()
            self._sending = True
            self._collect(final=False)
            self._sending = False
            if self._connection is None and self._settle():
                self._try_connect()
            if self._connection is None:
                self._alarm.sleep(min(INTERVAL_OFFLINE_S, self._pace.interval_s * 4))
                return
            self._sending = True
            if self._send():
                self._pace.sent()
            self._sending = False
            self._rest()
        except Exception as error:
            self._lose(error)

    def _finish(self) -> None:
        """Last round: everything to the spool, then as much as possible to the server."""
        try:
            self._collect(final=True)
            self.outbox.sync()
            self._keep_end()  # already now: nobody waits for us longer than the timeout
            self._settle(final=True)
            if self._connection is None and self._server and time.monotonic() < self._deadline:
                self._try_connect(force=True)
            while self._connection is not None and time.monotonic() < self._deadline:
                self._send()
                if self.outbox.empty:
                    break
                self._receive(min(0.05, max(0.0, self._deadline - time.monotonic())))
            if self._connection is not None:
                self._say_bye()
        except Exception as error:
            self._lose(error)
        self._leftovers.stop()
        if self._local is not None:
            self._local.close()
        try:
            self.outbox.close()
            if self.outbox.empty:
                self._box.remove()
        except OSError as error:
            logger.debug("nanwatch: the spool cannot be closed: %s", error)
        self._keep_end()

    def _keep_end(self) -> None:
        """Write down how this process ended, for whoever sends what is left."""
        if self.outbox.empty or self._bye is None:
            return
        reason, exit_code = self._bye
        lost, uncounted = self.outbox.losses()
        dropped = dict(self._recorder.dropped)
        if uncounted:
            dropped[SPOOL_FULL] = dropped.get(SPOOL_FULL, 0) + uncounted
        end = End(
            events=self.outbox.last("events"),
            scalars=self.outbox.last("scalars"),
            reason=reason,
            exit_code=exit_code,
            step=self._current_step(),
            dropped=dropped,
            lost=lost,
        )
        try:
            self._box.ended(end)
        except OSError as error:
            logger.debug("nanwatch: the end of the run cannot be written down: %s", error)

    def _say_bye(self) -> None:
        assert self._connection is not None and self._bye is not None
        reason, exit_code = self._bye
        self._beat()  # what was dropped at the last, and how little still waits
        if self.outbox.empty:
            self._connection.send(
                frames.Bye(
                    events=self.outbox.last("events"),
                    scalars=self.outbox.last("scalars"),
                    reason=reason,
                    exit_code=exit_code,
                )
            )
        self._connection.close()
        self._connection = None

    def _collect(self, final: bool) -> None:
        now = time.monotonic()
        if not final and now - self._collected_at < self._pace.interval_s:
            return
        self._collected_at = now
        records: list[Record] = list(self._recorder.drain(final))
        records.extend(self._inbox.take_results())
        for kind, count, text, at in GUARD.take_changed() if GUARD.changed else ():
            records.append(frames.Problem(time=at, kind=kind, count=count, text=text[:2000]))
        declared = self.outbox.declare(self._recorder.catalog.take_fresh())
        if records:
            self.outbox.put(records)
        # Sent only now: what was drained must be kept before a broken line can raise.
        if self._connection is not None:
            for frame in declared:
                self._connection.send_bytes(frame)
        if now - self._synced_at >= FSYNC_INTERVAL_S:
            self._synced_at = now
            self.outbox.secure()
            self._box.owner.touch()

    # --- connection ------------------------------------------------------------------------------

    def _settle(self, final: bool = False) -> bool:
        """True once this process knows which rank of which run it is."""
        if self._who is not None:
            return True
        who = self._agreement.poll(final)
        while who is None and final and time.monotonic() < self._deadline - SETTLE_LAST_S:
            time.sleep(SETTLE_PAUSE_S)
            who = self._agreement.poll(final)
        if who is None and final:
            who = self._agreement.give_up()
        if who is None:
            return False
        if who.problem:
            logger.warning("nanwatch: %s", who.problem)
        self._who = who
        facts = {**self._info.facts, **who.facts}
        self._info = msgspec.structs.replace(self._info, id=who.run_id, facts=facts)
        self._offer = self._on_identity(who)
        self.keep_hello()
        return True

    def _try_connect(self, force: bool = False) -> None:
        now = time.monotonic()
        if now < self._retry_at and not force:
            return
        if self._local is not None:
            found = self._local.find()
            if found is None:
                return
            self._server, self._token = found.url, found.token
        if not self._server:
            return
        try:
            self._connection = self._handshake()
            self._backoff.reset()
            self._tell("connected", logging.DEBUG, "nanwatch: connected to %s", self._server)
        except Refused as error:
            self._retry_at = now + self._backoff.after_refusal()
            self._tell(
                str(error),
                logging.WARNING,
                "nanwatch: %s Training goes on, data is kept on disk.",
                error,
            )
        except Exception as error:
            self._retry_at = now + self._backoff.after_failure()
            self._tell(
                "unreachable",
                logging.WARNING,
                "nanwatch: no server at %s (%s). Training goes on, data is kept on disk and sent "
                "when it comes back.",
                self._server,
                error,
            )

    def _hello(self) -> frames.Hello:
        return frames.Hello(
            proto=[PROTOCOL_VERSION],
            sdk=self._sdk,
            run=self._info,
            rank=self._who.rank if self._who else 0,
            world=self._who.world if self._who else 1,
            epoch=self._epoch,
            generation=self._who.generation if self._who else 0,
            wall=time.time(),
            events=self.outbox.span("events"),
            scalars=self.outbox.span("scalars"),
            control=self._offer,
        )

    def keep_hello(self) -> None:
        """Leave beside the segments what an upload after our death needs."""
        offline = self._local is None and not self._server
        try:
            self._box.own(
                self._hello(),
                mode="offline" if offline else "online",
                server="" if self._local is not None else self._server,
            )
        except OSError as error:
            GUARD.note("spool", error)

    def _handshake(self) -> Connection:
        connection = Connection(self._server, self._token)
        try:
            connection.send(self._hello())
            welcome = self._await_welcome(connection)
            if not isinstance(welcome, frames.Welcome):
                raise frames.FrameError(f"expected welcome, got {type(welcome).__name__}")
            marks: dict[Lane, int] = {"events": welcome.events, "scalars": welcome.scalars}
            if self.outbox.last("scalars") >= 0 or self.outbox.last("events") >= 0:
                for frame in self.outbox.declarations():
                    connection.send_bytes(frame)
            for lane, upto in marks.items():
                self.outbox.resume(lane, upto)
        except BaseException:
            connection.close()
            raise
        self._credit = welcome.credit
        self._pace.wish(welcome.interval)
        self._hold_until = 0.0
        self._beat_at = 0.0
        self.connected.set()
        self._on_welcome(welcome.url)
        if not self._stop.is_set():  # no thread may be begun while the interpreter ends
            self._leftovers.start(self._server, self._token, "" if self._local else self._server)
        return connection

    def _await_welcome(self, connection: Connection) -> frames.ServerFrame | None:
        """Data goes on to the disk meanwhile: the process may end before a mute server speaks."""
        until = time.monotonic() + 5.0
        while time.monotonic() < min(until, self._deadline):
            frame = connection.receive(0.1)
            if frame is not None:
                return frame
            self._collect(final=self._stop.is_set())
        return None

    def _lose(self, error: Exception) -> None:
        """The connection broke, or something of ours did: drop it, keep everything, retry."""
        connection, self._connection = self._connection, None
        if connection is None:
            GUARD.note("worker", error)
            self._alarm.sleep(INTERVAL_OFFLINE_S)
            return
        code = connection.close_code()
        try:
            connection.close()
        except Exception as closing:
            logger.debug("nanwatch: closing failed: %s", closing)
        self._retry_at = time.monotonic() + self._backoff.after_failure()
        self._inbox.disconnected()
        self._tell(
            "lost",
            logging.WARNING,
            "nanwatch: lost the server (%s, code %s). Training goes on, data is kept on disk.",
            error,
            code,
        )
        logger.debug("nanwatch: lost the server: %s", error)

    def _tell(self, key: str, level: int, text: str, *values: object) -> None:
        """One line per kind of news; a person must not read the same line for ever."""
        if key not in self._told:
            self._told.add(key)
            logger.log(level, text, *values)

    # --- traffic ---------------------------------------------------------------------------------

    def _send(self) -> bool:
        """Send what is due; True if there was a frame with data."""
        connection, sent = self._connection, False
        assert connection is not None
        now = time.monotonic()
        if now >= self._hold_until:
            for lane in LANES:
                for frame in self.outbox.due(lane, self._credit):
                    connection.send_bytes(frame)
                    sent = True
        for frame in self._inbox.take_frames():
            connection.send(frame)
        if now - self._beat_at >= BEAT_INTERVAL_S:
            self._beat_at = now
            self._beat()
        return sent

    def _beat(self) -> None:
        assert self._connection is not None
        self._connection.send(
            frames.Beat(
                step=self._current_step(),
                wall=time.time(),
                queued=self.outbox.queued(),
                dropped=dict(self._recorder.dropped),
                overhead=self._overhead(),
            )
        )

    def _rest(self) -> None:
        """Until the next frame is due. Whoever waits for an ack alone sleeps, and reads it then."""
        now = time.monotonic()
        rest_s = self._collected_at + self._pace.interval_s - now
        if not self.outbox.empty and not self.outbox.unsent and now >= self._listen_until:
            commanded = self._offer is not None
            deaf_s = min(rest_s, DEAF_MOST_S) if commanded else rest_s
            self._alarm.sleep(deaf_s)
            if not commanded and now < self._listened_at + UNCOMMANDED_S:
                return  # acks alone are to be read, and there is credit for many frames
            rest_s -= deaf_s
        self._listened_at = now
        self._receive(max(0.0, rest_s))

    def _receive(self, timeout_s: float) -> None:
        connection = self._connection
        assert connection is not None
        frame = connection.receive(timeout_s)
        until = time.monotonic() + INTERVAL_OFFLINE_S
        while frame is not None:
            self._handle(frame)
            if self._stop.is_set() or time.monotonic() >= until:
                return  # a server that never stops talking must not keep us from the disk
            frame = connection.receive(0)

    def _handle(self, frame: frames.ServerFrame) -> None:
        if isinstance(frame, frames.Ack):
            self.outbox.ack(frame.lane, frame.upto)
            self._credit = frame.credit
        elif isinstance(frame, frames.Slow):
            self._credit = frame.credit
            self._hold_until = time.monotonic() + (frame.retry if 0 <= frame.retry <= 60 else 1.0)
            self._pace.wish(frame.interval, INTERVAL_S)
            for spool in self.outbox.spools.values():
                spool.rewind()
        elif isinstance(frame, frames.Reject):
            self._recorder.count_drop(f"rejected: {frame.code}", frame.last - frame.first + 1)
            self._tell(
                f"reject {frame.code}",
                logging.WARNING,
                "nanwatch: the server refused records (%s): %s",
                frame.code,
                frame.message,
            )
        elif isinstance(frame, frames.Command | frames.Go | frames.Revoke):
            if isinstance(frame, frames.Command):
                self._listen_until = time.monotonic() + GO_WINDOW_S
            self._inbox.receive(frame)
