"""From an incident to a receiver: once, also through outages, storms and nights. A virtual clock
moves quiet hours, caps and retries; store, pipeline, couriers and receivers are real."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from nanwatch_server.control.queue import Desk
from nanwatch_server.domain.models import IncidentState, Severity
from nanwatch_server.domain.notify import QuietHours
from nanwatch_server.live.hub import Hub
from nanwatch_server.notify import outbox, worker
from nanwatch_server.notify.desk import Notifications
from nanwatch_server.notify.worker import RUN_GAP_S, SHARED, SHARED_GAP_S, TOGETHER_S
from nanwatch_server.pipeline import Pipeline
from nanwatch_server.store.history import History
from nanwatch_server.store.tail import Tail
from tests.server.ingest.test_first_light import eventually
from tests.server.notify.kit import ADMIN, free_port, incident, receiver, replace, stored_run
from tests.server.test_pipeline import KINDS, Told, commit, finished
from tests.server.wire import RUN, table

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING
PATIENCE_S = 60.0
"""Real seconds; the machine may be busy."""


class Lab:
    """A store, notifications around it, and a clock that only the test moves."""

    def __init__(self, store):
        self.store, self.now = store, 1_800_000_000.0
        self.desk = self.begin()

    def begin(self):
        """As a server starts."""
        self.desk = Notifications(
            self.store, lambda path: f"https://nan.example{path}",
            allow_local=True, clock=lambda: self.now,
        )  # fmt: skip
        self.desk.start()
        return self.desk

    def channel(self, url, name="hook", severity=WARNING):
        return self.desk.book.add_channel(name, url, severity, by=ADMIN)

    def route(self, made, **given):
        """The channel's first route, changed."""
        [known] = [one for one in self.store.routes() if one.channel_id == made.id]
        given = {"resolved": False, "quiet": None, "enabled": True} | given
        self.desk.book.put_route(
            known.id, made.id, given.pop("project", ""), given.pop("severity", WARNING),
            by=ADMIN, **given,
        )  # fmt: skip

    def happens(self, *incidents):
        """The incidents are stored, as the pipeline does it."""
        with self.store.write() as uow:
            for one in incidents:
                uow.put_incident(one)
                self.desk.note(uow, one)
        self.desk.wake()

    def passes(self, seconds):
        """Time goes on."""
        self.now += seconds
        self.desk.wake()

    def log(self, *fields):
        """Rows of the outbox, oldest first."""
        rows = self.store.deliveries(limit=500)[::-1]
        return [tuple(getattr(row, name) for name in fields) for row in rows]

    def states(self):
        return [state for (state,) in self.log("state")]

    def settled(self):
        """Wait until nothing is due and nothing is on its way."""
        notifier = self.desk._notifier
        eventually(
            lambda: not self.store.due_deliveries(self.now, 1) and not notifier._busy, PATIENCE_S
        )


@pytest.fixture
def lab(store):
    stored_run(store)
    made = Lab(store)
    yield made
    made.desk.close()


def test_a_critical_incident_is_told_at_once_and_once(lab, hook):
    lab.channel(hook.url)
    first = incident(CRITICAL)
    for count in range(50):
        lab.happens(replace(first, count=count))
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    assert [one.json["incident"]["severity"] for one in hook.got] == ["critical"]
    assert lab.log("state", "tries", "detail") == [("sent", 1, "")]
    assert hook.got[0].id.startswith("i1|critical|0|")


def test_a_rise_is_told_and_what_follows_within_a_minute_waits(lab, hook):
    lab.channel(hook.url)
    lab.happens(incident(WARNING))
    assert hook.got == [] and lab.states() == ["waiting"]
    lab.passes(1.5)
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    lab.passes(5)
    lab.happens(incident(CRITICAL))
    lab.settled()
    assert len(hook.got) == 1
    assert lab.log("state", "detail")[1] == ("waiting", "at most one message of a run in 60 s")
    lab.passes(RUN_GAP_S)
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    lab.settled()
    assert [one.json["incident"]["severity"] for one in hook.got] == ["warning", "critical"]
    assert lab.states() == ["sent", "sent"]


def test_what_turns_critical_within_a_second_is_one_message(lab, hook):
    lab.channel(hook.url)
    lab.happens(incident(WARNING))
    lab.happens(incident(CRITICAL))
    eventually(lambda: hook.got, PATIENCE_S)
    lab.passes(RUN_GAP_S + 5)
    lab.settled()
    # The warning was due a second later: it goes along, or says the same a minute later at most.
    assert 1 <= len(hook.got) <= 2
    assert hook.got[0].json["incident"]["severity"] == "critical"


def test_several_incidents_of_a_run_share_a_message(lab, hook):
    lab.channel(hook.url)
    lab.happens(incident(WARNING, id="a"), incident(WARNING, id="b"), incident(WARNING, id="c"))
    lab.passes(2)
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    [got] = hook.got
    assert {one["id"] for one in [got.json["incident"], *got.json["more"]]} == {"a", "b", "c"}
    assert sorted(lab.states()) == ["merged", "merged", "sent"]


def test_many_runs_at_once_share_a_message(lab, hook):
    lab.channel(hook.url)
    runs = [f"{n:032x}" for n in range(40)]
    for n, run in enumerate(runs):
        stored_run(lab.store, run, f"run-{n}")
    lab.happens(*(incident(CRITICAL, id=f"i{n}", run=run) for n, run in enumerate(runs)))
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    assert len(hook.got) <= 2
    assert "40 runs need attention" in hook.got[0].json["text"]
    assert set(lab.states()) == {"sent", "merged"}


def test_runs_that_fail_one_after_the_other_share_messages_from_the_fourth_on(lab, hook):
    lab.channel(hook.url)
    for n in range(12):  # one a second
        stored_run(lab.store, f"{n:032x}", f"run-{n}")
        lab.happens(incident(CRITICAL, id=f"i{n}", run=f"{n:032x}"))
        lab.settled()
        lab.passes(1.0)
    assert len(hook.got) == 3, "each with a message of its own"
    assert lab.log("state", "detail")[-1] == ("waiting", SHARED)
    lab.passes(SHARED_GAP_S)
    eventually(lambda: len(hook.got) == 4, PATIENCE_S)
    lab.settled()
    assert "9 runs need attention" in hook.got[3].json["text"]
    assert set(lab.states()) == {"sent", "merged"}
    lab.passes(TOGETHER_S + 1)
    stored_run(lab.store, "f" * 32, "later")
    lab.happens(incident(CRITICAL, id="later", run="f" * 32))
    eventually(lambda: len(hook.got) == 5, PATIENCE_S)


def test_nan_at_a_thousand_steps_a_second_for_ten_minutes_is_one_notification(lab, hook):
    """600,000 attempts through the real rules; the clock goes on by what they would have taken."""
    lab.channel(hook.url)
    pipeline = Pipeline(
        lab.store, Tail(lab.store, History(lab.store.readers)), Hub(), Desk(lab.store), Told(),
        clock=lambda: lab.now, announce=lab.desk.note,
    )  # fmt: skip
    pipeline.start()
    told = set()
    for first in range(151):
        steps = np.arange(first * 4000, (first + 1) * 4000) if first else np.arange(3000, 4000)
        one = np.ones(len(steps))
        bad = one * np.nan if first else 5000 / steps + 0.01 * np.sin(steps)
        values = [bad, bad, one, one if first == 0 else 0 * one, 3e-4 * one, 3e-4 * one]
        record = table(list(range(len(KINDS))), steps, values)
        pipeline.committed(commit(lab.store, first, [record]))
        if first % 10 == 0:
            eventually(pipeline._queue.empty, PATIENCE_S)
            lab.settled()
        lab.passes(4.0)
        told |= {one.id for one in hook.got}
    finished(pipeline)
    lab.passes(RUN_GAP_S)
    lab.settled()
    incidents = lab.store.incidents(run_id=RUN)
    assert any(one.severity is CRITICAL for one in incidents)
    assert len(lab.store.findings(RUN)) > 0
    assert len(hook.got) == 1, [one.json["text"] for one in hook.got]
    assert hook.got[0].json["incident"]["severity"] == "critical"


def test_trouble_that_flaps_is_told_every_quarter_of_an_hour(lab, hook):
    made = lab.channel(hook.url)
    lab.route(made, resolved=True)
    for n in range(40):  # 20 minutes, twice a minute
        lab.happens(incident(CRITICAL, reopened=n))
        lab.settled()
        lab.happens(incident(CRITICAL, IncidentState.RESOLVED, reopened=n))
        lab.settled()
        lab.passes(30)
    events = [one.json["incident"]["status"] for one in hook.got]
    assert len(events) <= 4, events


# --- outages ------------------------------------------------------------------------------------


def test_a_receiver_that_is_down_gets_it_when_it_is_back(lab):
    port = free_port()
    lab.channel(f"http://127.0.0.1:{port}/x")
    lab.happens(incident(CRITICAL))
    tries = 0
    for _ in range(6):
        eventually(lambda seen=tries: lab.log("tries")[0][0] > seen, PATIENCE_S)
        ((tries, state, due, detail),) = lab.log("tries", "state", "due_at", "detail")
        assert state == "waiting" and "refused" in detail
        wait = due - lab.now
        longest = min(worker.MOST_RETRY_S, worker.FIRST_RETRY_S * 2 ** (tries - 1))
        assert longest / 2 <= wait <= longest
        lab.passes(wait)
    with receiver(port) as hook:
        lab.passes(worker.MOST_RETRY_S)
        eventually(lambda: hook.got, PATIENCE_S)
        lab.settled()
        assert len(hook.got) == 1
    assert lab.states() == ["sent"]


def test_it_is_given_up_after_a_day_and_not_before(lab):
    lab.channel(f"http://127.0.0.1:{free_port()}/x")
    began = lab.now
    lab.happens(incident(CRITICAL))
    while lab.now < began + 86_400:
        lab.settled()
        assert lab.states() == ["waiting"]
        lab.passes(lab.store.next_due() - lab.now)
        # Nobody waits a day in a test: most of the tries between are left out.
        if 600 < lab.now - began < 85_000:
            lab.now = began + 85_000
    eventually(lambda: lab.states() == ["failed"], PATIENCE_S)
    ((tries, detail),) = lab.log("tries", "detail")
    assert tries > 8 and "refused" in detail


def test_a_service_that_asks_for_time_gets_it(lab, hook):
    lab.channel(hook.url)
    hook.answers[:], hook.headers["Retry-After"] = [429], "300"
    lab.happens(incident(CRITICAL))
    eventually(lambda: lab.log("tries") == [(1,)], PATIENCE_S)
    lab.settled()
    assert lab.log("due_at") == [(lab.now + 300,)]
    lab.passes(301)
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    assert hook.got[0].id == hook.got[1].id


def test_a_slow_channel_holds_up_no_other_and_no_incident(lab, hook):
    with receiver() as slow:
        slow.hold.clear()
        lab.channel(slow.url, "slow")
        lab.channel(hook.url, "quick")
        lab.happens(incident(CRITICAL))
        eventually(lambda: slow.got and hook.got, PATIENCE_S)
        eventually(lambda: "sent" in lab.states(), PATIENCE_S)  # the gap counts from then on
        began = time.monotonic()
        lab.passes(RUN_GAP_S)
        lab.happens(incident(CRITICAL, id="i2"))
        assert time.monotonic() - began < 5
        eventually(lambda: len(hook.got) == 2, PATIENCE_S)
        assert len(slow.got) == 1, "one at a time"
        slow.hold.set()
        lab.settled()
        lab.passes(RUN_GAP_S)
        eventually(lambda: slow.got[-1].json["incident"]["id"] == "i2", PATIENCE_S)


def test_a_restart_goes_on_where_the_outbox_is(lab, hook):
    hook.answers[:] = [500]
    lab.channel(hook.url)
    lab.happens(incident(CRITICAL))
    eventually(lambda: lab.log("tries") == [(1,)], PATIENCE_S)
    lab.desk.close()
    lab.passes(60)
    lab.begin()
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    assert hook.got[0].id == hook.got[1].id
    lab.happens(incident(CRITICAL))  # the rules run again over what they know
    lab.settled()
    assert len(hook.got) == 2


def test_a_transaction_that_fails_says_nothing_and_the_next_one_does(lab, hook):
    lab.channel(hook.url)
    with pytest.raises(RuntimeError), lab.store.write() as uow:
        uow.put_incident(incident(CRITICAL))
        lab.desk.note(uow, incident(CRITICAL))
        raise RuntimeError("the disk")
    lab.desk.wake()
    assert lab.states() == []
    lab.happens(incident(CRITICAL))
    eventually(lambda: hook.got, PATIENCE_S)


# --- quiet hours, switches, ends ----------------------------------------------------------------


def night(lab, **more):
    """Quiet hours that have begun and last an hour more."""
    clock = time.gmtime(lab.now + 3600)
    end = f"{clock.tm_hour:02}:{clock.tm_min:02}"
    clock = time.gmtime(lab.now - 3600)
    start = f"{clock.tm_hour:02}:{clock.tm_min:02}"
    return QuietHours(start=start, end=end, zone="UTC", **more)


def test_quiet_hours_hold_back_what_can_wait(lab, hook):
    made = lab.channel(hook.url)
    lab.route(made, quiet=night(lab))
    lab.happens(incident(WARNING, id="open"), incident(WARNING, id="over"))
    lab.happens(incident(CRITICAL, id="urgent"))
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    assert [one.json["incident"]["id"] for one in hook.got] == ["urgent"]
    lab.happens(incident(WARNING, IncidentState.RESOLVED, id="over"))
    lab.passes(3601)
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    lab.settled()
    assert hook.got[1].json["incident"]["id"] == "open" and hook.got[1].json["more"] == []
    said = dict(lab.log("incident_id", "detail"))
    assert said["over"] == "over before the quiet hours were"


def test_a_warning_that_is_over_before_it_was_told_is_not_told(lab, hook):
    """Neither that it began nor that it is over."""
    made = lab.channel(hook.url)
    lab.route(made, resolved=True)
    lab.happens(incident(WARNING))
    lab.happens(incident(WARNING, IncidentState.RESOLVED))
    lab.settled()
    lab.passes(RUN_GAP_S)
    eventually(lambda: lab.states() == ["skipped", "skipped"], PATIENCE_S)
    assert hook.got == []
    assert lab.log("detail")[0] == ("over before it was told",)


def test_the_end_is_told_to_routes_that_ask_for_it(lab, hook):
    made = lab.channel(hook.url)
    lab.route(made, resolved=True)
    lab.happens(incident(CRITICAL))
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    lab.passes(RUN_GAP_S + 1)
    lab.happens(incident(CRITICAL, IncidentState.RESOLVED))
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    assert hook.got[1].json["event"] == "incident.resolved"
    assert hook.got[1].json["text"].startswith("Over: ")


def test_projects_go_to_their_own_channels(lab, hook):
    stored_run(lab.store, "c" * 32, "vit", "vision")
    made = lab.channel(hook.url)
    lab.route(made, project="vision")
    lab.happens(incident(CRITICAL), incident(CRITICAL, id="i2", run="c" * 32))
    eventually(lambda: hook.got, PATIENCE_S)
    lab.settled()
    assert [one.json["incident"]["run"]["name"] for one in hook.got] == ["vit"]


def test_a_channel_that_is_off_or_gone_gets_nothing_more(lab, hook):
    made = lab.channel(hook.url)
    hook.answers[:] = [500]
    lab.happens(incident(CRITICAL))
    eventually(lambda: lab.log("tries") == [(1,)], PATIENCE_S)
    lab.settled()
    lab.desk.book.change_channel(made.id, enabled=False, by=ADMIN)
    lab.passes(100)
    eventually(lambda: lab.states() == ["skipped"], PATIENCE_S)
    lab.happens(incident(CRITICAL, id="i2"))
    lab.desk.book.change_channel(made.id, enabled=True, by=ADMIN)
    hook.answers[:] = [500]
    lab.happens(incident(CRITICAL, id="i3"))
    eventually(lambda: len(hook.got) == 2, PATIENCE_S)
    lab.settled()
    lab.desk.book.delete_channel(made.id, by=ADMIN)
    assert lab.log("state", "detail")[-1] == ("skipped", "the channel was deleted")
    lab.passes(1000)
    lab.settled()
    assert len(hook.got) == 2 and lab.store.routes() == []


def test_the_routes_cost_a_storm_nothing(lab, hook, monkeypatch):
    """After the first time the database is not asked any more."""
    lab.channel(hook.url)
    with lab.store.write() as uow:
        for _ in range(2):
            lab.desk.note(uow, incident(CRITICAL))
    asked = []
    with lab.store.write() as uow:
        monkeypatch.setattr(uow, "add_delivery", asked.append)
        for count in range(1000):
            lab.desk.note(uow, incident(CRITICAL, count=count))
    assert asked == []
    assert len(lab.desk._outbox._settled) == 1 and outbox.REMEMBERED_MAX >= 1000


def test_stopping_does_not_wait_for_a_receiver(lab, hook):
    hook.hold.clear()
    lab.channel(hook.url)
    lab.happens(incident(CRITICAL))
    eventually(lambda: hook.got, PATIENCE_S)
    began = time.monotonic()
    lab.desk.close()
    assert time.monotonic() - began < 5
    assert lab.states() == ["waiting"]
    assert not [one for one in threading.enumerate() if one.name.startswith("nanwatch-notify")]
