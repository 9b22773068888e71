"""The thread that empties the outbox: one message at a time for each channel, until it has arrived.

At least once: a row waits until the service has taken the message, over restarts, for a day. Never
a storm: at most one message a minute of a run to a channel, everything else there is to say goes
along with it, and many runs at once share one message.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import structlog

from nanwatch_server.domain.models import Incident, IncidentState, Severity
from nanwatch_server.domain.notify import Channel, Delivery
from nanwatch_server.domain.ports import Store
from nanwatch_server.notify.channels import Couriers, Outcome
from nanwatch_server.notify.message import Link, News, compose

_log = structlog.get_logger()

RUN_GAP_S = 60.0
"""Between two messages of one run to one channel."""

TOGETHER_RUNS = 3
"""More runs than that with news for a channel share one message."""

TOGETHER_S = 70.0
"""Seconds in which a channel is told of so many runs one by one. After that it is told of all that
have news at once, ..."""

SHARED_GAP_S = 20.0
"""... every so many seconds; longer than a third of `TOGETHER_S` would end that by itself."""

SHARED = f"many runs have news: one message in {SHARED_GAP_S:g} s for all of them"

FIRST_RETRY_S, MOST_RETRY_S = 5.0, 900.0
LOOK_S, BUSY_LOOK_S = 30.0, 0.5
AT_ONCE = 500
THREADS = 3

TRIM_S = 600.0
LOG_DAYS, LOG_ROWS, WAITING_MAX = 30, 10_000, 5_000

CLOSE_S = 2.0


class Notifier:
    """Owns the thread. `wake` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        couriers: Couriers,
        link: Link,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._couriers, self._link, self._clock = store, couriers, link, clock
        self._woken, self._stop = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="nanwatch-notify")
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        """Channels that are being told something."""
        self._sent_at: dict[str, deque[float]] = {}
        """Channel → when its last messages were sent. Only whoever made it busy looks."""
        self._trim_at = 0.0
        self._thread = threading.Thread(target=self._run, name="nanwatch-notify", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier server left."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something new to say."""
        self._woken.set()

    def close(self) -> None:
        """Stop; a message in hand is given up and sent again by the next server."""
        self._stop.set()
        self._woken.set()
        self._couriers.close()
        if self._thread.is_alive():
            self._thread.join(timeout=CLOSE_S)
        self._pool.shutdown(wait=True, cancel_futures=True)

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = LOOK_S
            try:
                wait = self._round()
            except Exception:
                _log.exception("the outbox cannot be read or written; trying again")
            self._woken.wait(wait)
            self._woken.clear()

    def _round(self) -> float:
        """Hand out what is due; seconds until there is more."""
        now = self._clock()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_S
            self._trim(now)
        self._couriers.trim()
        for channel_id in self._store.due_channels(now):
            with self._lock:
                if channel_id in self._busy:
                    continue
                self._busy.add(channel_id)
            self._pool.submit(self._tell, channel_id)
        with self._lock:
            if self._busy:
                return BUSY_LOOK_S  # rows of a busy channel stay due; those of others may come
        at = self._store.next_due()
        return LOOK_S if at is None else min(LOOK_S, max(0.05, at - now))

    def _trim(self, now: float) -> None:
        with self._store.write() as uow:
            before = now - LOG_DAYS * 86_400
            uow.trim_deliveries(before, keep=LOG_ROWS, waiting_max=WAITING_MAX, now=now)

    def _tell(self, channel_id: str) -> None:
        """Everything that is due for one channel. On a thread of the pool."""
        try:
            channel = next((c for c in self._store.channels() if c.id == channel_id), None)
            mine = self._store.due_deliveries(self._clock(), AT_ONCE, channel_id)
            if channel is None or not channel.enabled:
                self._put(_done(mine, "skipped", "the channel is off", self._clock()))
            else:
                self._tell_runs(channel, mine)
        except Exception:
            _log.exception("a channel could not be served", channel=channel_id)
            self._stop.wait(1.0)  # its rows are still due
        finally:
            with self._lock:
                self._busy.discard(channel_id)
            self.wake()

    def _tell_runs(self, channel: Channel, mine: Sequence[Delivery]) -> None:
        runs: dict[str, list[Delivery]] = {}
        for one in mine:
            runs.setdefault(one.run_id, []).append(one)
        ready = [rows for run_id, rows in runs.items() if self._may_tell(channel, run_id, rows)]
        # what was tried may have arrived: it is said again under the key that it had
        again = [rows for rows in ready if any(one.tries for one in rows)]
        ready = again + self._shared(channel, [rows for rows in ready if rows not in again])
        for i, rows in enumerate(ready):
            if self._stop.is_set():
                return
            failed = self._say(channel, rows)
            if failed is not None:  # the rest would fail alike, after as long a wait
                rest = [one for rows in ready[i + 1 :] for one in rows]
                self._put(
                    [replace(one, due_at=failed.due_at, detail=failed.detail) for one in rest]
                )
                return

    def _shared(self, channel: Channel, ready: list[list[Delivery]]) -> list[list[Delivery]]:
        """The same rows, in one message if many runs have news at once or had lately; none, and put
        off, if there was such a message a moment ago."""
        shared_at = self._shared_at(channel.id)
        if len(ready) <= TOGETHER_RUNS and not shared_at:
            return ready
        together = [one for rows in ready for one in rows]
        if shared_at > self._clock():
            self._put([replace(one, due_at=shared_at, detail=SHARED) for one in together])
            return []
        return [together] if together else []

    def _shared_at(self, channel_id: str) -> float:
        """When the channel may be told of all runs in one message; 0 while each has its own."""
        times = self._sent_at.get(channel_id, ())
        now = self._clock()
        lately = [at for at in times if now - TOGETHER_S < at <= now]
        return lately[-1] + SHARED_GAP_S if len(lately) >= TOGETHER_RUNS else 0.0

    def _may_tell(self, channel: Channel, run_id: str, rows: list[Delivery]) -> bool:
        """False, and put off, if the channel was told of this run a moment ago."""
        free_at = self._store.last_sent(channel.id, run_id) + RUN_GAP_S
        if free_at <= self._clock():
            return True
        said = f"at most one message of a run in {RUN_GAP_S:g} s"
        self._put([replace(one, due_at=free_at, detail=said) for one in rows])
        return False

    def _say(self, channel: Channel, rows: list[Delivery]) -> Delivery | None:
        """One message for these rows, and what became of it; the row to be tried again, if any."""
        wanted, news = self._news(rows)
        if not news:
            return None
        lead = wanted[0]
        message = compose(news, self._link, self._clock())
        outcome = self._couriers.send(channel, lead.key, message)
        if self._stop.is_set() and not outcome.ok:
            return None  # we ended it ourselves
        now = self._clock()
        about = {"channel": channel.name, "service": channel.service, "key": lead.key}
        if outcome.ok:
            times = self._sent_at.setdefault(channel.id, deque(maxlen=TOGETHER_RUNS))
            times.append(now)
            _log.info("notified", **about, rows=len(wanted), seconds=round(outcome.took_s, 2))
            sent = replace(lead, state="sent", tries=lead.tries + 1, done_at=now, detail="")
            along = f"in the message of {lead.key}"
            self._put([sent, *_done(wanted[1:], "merged", along, now)])
            return None
        _log.warning("could not notify", **about, tries=lead.tries + 1, error=outcome.error)
        again = [_again(one, outcome, now) for one in wanted]
        self._put(again)
        return again[0]

    def _news(self, rows: Sequence[Delivery]) -> tuple[list[Delivery], list[News]]:
        """The rows that are still wanted, the worst first, and their incidents as they are now."""
        found: dict[str, News] = {}
        wanted: list[Delivery] = []
        now = self._clock()
        for one in sorted(rows, key=lambda one: (-one.severity, -one.n)):
            incident, run = self._store.incident(one.incident_id), self._store.run(one.run_id)
            if incident is None or run is None:
                self._put(_done([one], "skipped", "the run was deleted", now))
                continue
            if said := self._unwanted(one, incident):
                self._put(_done([one], "skipped", said, now))
                continue
            found.setdefault(incident.id, News(incident, run))
            wanted.append(one)
        return wanted, list(found.values())

    def _unwanted(self, one: Delivery, incident: Incident) -> str:
        """Why there is nothing left to say; empty if there is. What was tried is sent in any case:
        it may have arrived."""
        if one.tries:
            return ""
        if one.what == "resolved":
            rows = self._store.deliveries(run_id=one.run_id, channel_id=one.channel_id, limit=500)
            begun = [row for row in rows if (row.incident_id, row.what) == (incident.id, "firing")]
            told = any(row.tries or row.state == "merged" for row in begun)
            return "" if told else "it was not told that it began"
        if incident.state is IncidentState.RESOLVED and one.severity < Severity.CRITICAL:
            return "over before the quiet hours were" if one.quiet else "over before it was told"
        return ""

    def _put(self, rows: Sequence[Delivery]) -> None:
        """Write it down, however long the database takes: it must not be sent again for that."""
        while rows:
            with suppress(Exception):
                with self._store.write() as uow:
                    for one in rows:
                        uow.put_delivery(one)
                return
            if self._stop.wait(0.5):
                _log.error("what was sent could not be written down: it is sent again")
                return


def _done(rows: Sequence[Delivery], state: str, detail: str, now: float) -> list[Delivery]:
    return [replace(one, state=state, detail=detail, done_at=now) for one in rows]


def _again(one: Delivery, outcome: Outcome, now: float) -> Delivery:
    """Tried again later, or given up."""
    tried = replace(one, tries=one.tries + 1, detail=outcome.error)
    if now >= one.expires_at:
        return replace(tried, state="failed", done_at=now)
    longest = min(MOST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(one.tries, 10))
    wait = max(outcome.retry_after_s, longest * random.uniform(0.5, 1.0))
    return replace(tried, due_at=min(now + wait, max(one.expires_at, now + 1.0)))
