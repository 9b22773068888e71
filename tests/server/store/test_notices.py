"""Channels, routes and the outbox, on every engine."""

from __future__ import annotations

import math

import pytest

from nanwatch_server.domain.models import Severity, replace
from nanwatch_server.domain.notify import Channel, Delivery, QuietHours, Route
from nanwatch_server.store.base import RunRemovedError
from nanwatch_server.store.history import History
from nanwatch_server.store.removal import remove_run, size_of, sweep
from tests.server.notify.kit import incident, stored_run
from tests.server.wire import RUN

CHANNEL = Channel(
    id="c1", name="Kanal ✓", url="json://a/ß?x=1", shown="json://a/…", service="JSON",
    created_at=5.0, secret="whsec_x",
)  # fmt: skip
ROUTE = Route(
    id="r1", channel_id="c1", created_at=5.0, project="rl", min_severity=Severity.CRITICAL,
    resolved=True, quiet=QuietHours(start="22:00", end="07:00", zone="UTC", critical_passes=False),
)  # fmt: skip


def delivery(key, **more):
    given = {
        "channel_id": "c1", "run_id": RUN, "incident_id": "i1", "what": "firing",
        "severity": Severity.WARNING, "created_at": 10.0, "due_at": 10.0, "expires_at": 99.0,
    }  # fmt: skip
    return Delivery(key=key, **(given | more))


def add(store, *deliveries):
    with store.write() as uow:
        return [uow.add_delivery(one) for one in deliveries]


@pytest.fixture
def filled(store):
    stored_run(store)
    with store.write() as uow:
        uow.put_channel(CHANNEL)
        uow.put_route(ROUTE)
    return store


def test_channels_and_routes_come_back_as_they_were(filled):
    assert filled.channels() == [CHANNEL] and filled.routes() == [ROUTE]
    with filled.write() as uow:
        uow.put_channel(replace(CHANNEL, name="new", enabled=False))
        uow.put_route(replace(ROUTE, quiet=None))
    assert [one.name for one in filled.channels()] == ["new"]
    assert [one.quiet for one in filled.routes()] == [None]
    with filled.write() as uow:
        uow.delete_route("r1")
    assert filled.routes() == []


def test_a_key_is_there_once_and_belongs_to_its_transaction(filled):
    assert add(filled, delivery("k"), delivery("k")) == [True, False]
    assert add(filled, delivery("k", due_at=50.0)) == [False]
    with pytest.raises(ZeroDivisionError), filled.write() as uow:
        uow.put_incident(incident())
        uow.add_delivery(delivery("lost"))
        uow.add_delivery(delivery(1 / 0))
    assert [one.key for one in filled.deliveries()] == ["k"]
    assert filled.incidents() == []
    [known] = filled.deliveries()
    assert known == delivery("k", n=known.n) and known.n > 0


def test_what_is_due_oldest_first_and_when_there_is_more(filled):
    assert filled.next_due() is None and filled.due_deliveries(1e9, 9) == []
    add(filled, delivery("a"), delivery("b", due_at=30.0), delivery("c", due_at=20.0))
    assert [one.key for one in filled.due_deliveries(20.0, 9)] == ["a", "c"]
    assert [one.key for one in filled.due_deliveries(40.0, 2)] == ["a", "b"]
    add(filled, delivery("z", channel_id="c2", due_at=15.0))
    assert filled.due_channels(12.0) == ["c1"]
    assert sorted(filled.due_channels(15.0)) == ["c1", "c2"]
    assert [one.key for one in filled.due_deliveries(40.0, 9, "c2")] == ["z"]
    assert filled.next_due() == 10.0
    [first] = filled.due_deliveries(10.0, 9)
    with filled.write() as uow:
        uow.put_delivery(replace(first, state="sent", done_at=12.5, tries=2, detail="ünd"))
        uow.put_delivery(delivery("nowhere"))
    assert filled.next_due() == 15.0
    assert filled.last_sent("c1", RUN) == 12.5
    assert filled.last_sent("c2", RUN) == filled.last_sent("c1", "x") == 0.0
    [known] = [one for one in filled.deliveries() if one.key == "a"]
    assert (known.state, known.tries, known.detail, known.done_at) == ("sent", 2, "ünd", 12.5)
    assert len(filled.deliveries()) == 4


def test_the_log_in_pages_and_by_run_and_channel(filled):
    stored_run(filled, "c" * 32, "other")
    add(filled, *(delivery(f"k{n}", channel_id=f"c{n % 2}") for n in range(6)))
    add(filled, delivery("other", run_id="c" * 32))
    page = filled.deliveries(limit=3)
    rest = filled.deliveries(limit=9, after=page[-1].n)
    assert [one.key for one in page + rest] == ["other", "k5", "k4", "k3", "k2", "k1", "k0"]
    assert [one.key for one in filled.deliveries(run_id=RUN, channel_id="c1")] == ["k5", "k3", "k1"]
    with filled.write() as uow:
        told = uow.deliveries_of("i1", "c0")
        assert [one.key for one in told] == ["k0", "k2", "k4"]
        assert uow.deliveries_of("i2", "c0") == []


def test_deleting_a_channel_takes_its_routes_and_skips_what_waits(filled):
    add(filled, delivery("a"), delivery("b", channel_id="c2"))
    with filled.write() as uow:
        uow.delete_channel("c1", 77.0)
    assert filled.channels() == filled.routes() == []
    other, ours = filled.deliveries()
    assert other.state == "waiting"
    assert (ours.state, ours.done_at, ours.detail) == ("skipped", 77.0, "the channel was deleted")


def test_the_outbox_is_bounded(filled):
    add(filled, *(delivery(f"old{n}", state="sent", created_at=1.0 * n) for n in range(10)))
    add(filled, *(delivery(f"w{n}") for n in range(6)))

    def trim(before, keep, waiting_max):
        with filled.write() as uow:
            return uow.trim_deliveries(before, keep=keep, waiting_max=waiting_max, now=100.0)

    assert trim(3.0, 100, 100) == 3
    assert trim(0.0, 4, 100) == 3
    assert [one.key for one in filled.deliveries() if one.state == "sent"] == [
        "old9", "old8", "old7", "old6",
    ]  # fmt: skip
    assert trim(0.0, 4, 4) == 2
    failed = [one for one in filled.deliveries() if one.state == "failed"]
    assert [one.key for one in failed] == ["w1", "w0"]
    assert failed[0].detail == "more than 4 messages were waiting" and failed[0].done_at == 100.0
    assert trim(-math.inf, 100, 100) == 0


def test_a_deleted_run_takes_its_deliveries_along(filled):
    add(filled, delivery("a"))
    by = {"actor": "a", "role": "admin", "via": "token"}
    remove_run(filled, RUN, by, 5.0)
    sweep(filled, History(filled.readers), RUN)
    assert filled.deliveries() == [] and size_of(filled, RUN) == {}
    with pytest.raises(RunRemovedError):
        add(filled, delivery("b"))
