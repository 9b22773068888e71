"""Who is told what and when: pure."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanwatch_server.domain.models import IncidentState, Severity
from nanwatch_server.domain.notify import Delivery, QuietHours, Route
from nanwatch_server.notify.routing import (
    AGAIN_S,
    GIVE_UP_S,
    SETTLE_S,
    deliveries,
    is_news,
    quiet_until,
)
from tests.server.notify.kit import incident, replace

NOW = 1_800_000_000.0
CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def route(channel="c1", **more):
    return Route(id=f"r-{channel}", channel_id=channel, created_at=1.0, **more)


def at(text, zone="Europe/Berlin", fold=0):
    """Seconds of a local time."""
    wall = datetime.fromisoformat(text)
    return wall.replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def shown(seconds, zone="Europe/Berlin"):
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).strftime("%m-%d %H:%M:%S %Z")


def test_routes_by_project_and_severity():
    routes = [
        route("all"),
        route("bad", min_severity=CRITICAL),
        route("mine", project="rl"),
        route("others", project="vision"),
        route("off", enabled=False),
    ]
    assert {one.channel_id for one in deliveries(incident(WARNING), "rl", routes, NOW)} == {
        "all", "mine",
    }  # fmt: skip
    assert {one.channel_id for one in deliveries(incident(CRITICAL), "rl", routes, NOW)} == {
        "all", "bad", "mine",
    }  # fmt: skip


def test_a_warning_settles_and_a_critical_one_goes_at_once():
    [calm], [urgent] = (deliveries(incident(s), "p", [route()], NOW) for s in (WARNING, CRITICAL))
    assert (calm.due_at, urgent.due_at) == (NOW + SETTLE_S, NOW)
    assert urgent.expires_at == NOW + GIVE_UP_S and urgent.state == "waiting"


def test_keys_are_the_same_for_the_same_news_and_only_for_it():
    def keys(made, now=NOW):
        return [one.key for one in deliveries(made, "p", [route(resolved=True)], now)]

    first = incident(WARNING)
    assert keys(first) == keys(replace(first, count=900, last_step=9999), NOW + 500)
    worse = replace(first, severity=CRITICAL)
    back = replace(first, reopened=1)
    over = incident(WARNING, IncidentState.RESOLVED)
    assert len({*keys(first), *keys(worse), *keys(back), *keys(over)}) == 4


@pytest.mark.parametrize("state", [IncidentState.ACKNOWLEDGED, IncidentState.SNOOZED])
def test_what_somebody_has_seen_is_not_told(state):
    assert deliveries(incident(CRITICAL, state), "p", [route(resolved=True)], NOW) == []


def test_the_end_is_told_to_those_who_asked():
    over = incident(WARNING, IncidentState.RESOLVED)
    found = deliveries(over, "p", [route("a"), route("b", resolved=True)], NOW)
    assert [(one.channel_id, one.what) for one in found] == [("b", "resolved")]


def test_several_routes_to_one_channel_say_it_once_at_the_earliest():
    night = QuietHours(start="00:00", end="23:59", zone="UTC", critical_passes=False)
    loud, hushed = route("c1", project="p"), replace(route("c1"), quiet=night)
    for routes in ([loud, hushed], [hushed, loud]):
        [one] = deliveries(incident(CRITICAL), "p", routes, NOW)
        assert (one.due_at, one.quiet) == (NOW, False)


# --- what is news -------------------------------------------------------------------------------


def said(what, severity, created_at, state="sent"):
    return Delivery(
        key=f"{what}{severity}{created_at}", channel_id="c", run_id="r", incident_id="i", what=what,
        severity=severity, created_at=created_at, due_at=created_at, expires_at=1e12, state=state,
    )  # fmt: skip


def test_trouble_that_comes_and_goes_is_not_told_every_time():
    earlier = [said("firing", WARNING, NOW), said("resolved", WARNING, NOW + 1)]
    again = said("firing", WARNING, NOW + 60)
    assert is_news(again, earlier) == NOW + AGAIN_S
    assert is_news(replace(again, created_at=NOW + AGAIN_S), earlier) is None
    assert is_news(replace(again, severity=CRITICAL), earlier) is None


def test_the_end_is_news_only_to_who_heard_of_the_beginning():
    end = said("resolved", WARNING, NOW + 60)
    assert is_news(end, []) is not None
    assert is_news(end, [said("firing", WARNING, NOW, "skipped")]) is not None
    assert is_news(end, [said("firing", WARNING, NOW)]) is None
    assert is_news(end, [said("firing", WARNING, NOW), said("resolved", WARNING, NOW)]) is not None


# --- quiet hours --------------------------------------------------------------------------------

NIGHT = QuietHours(start="22:00", end="07:00", zone="Europe/Berlin")
LUNCH = QuietHours(start="12:00", end="13:30", zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        (NIGHT, "2027-01-10T21:59:59", None),
        (NIGHT, "2027-01-10T22:00:00", "01-11 07:00:00 CET"),
        (NIGHT, "2027-01-11T00:00:00", "01-11 07:00:00 CET"),
        (NIGHT, "2027-01-11T06:59:59", "01-11 07:00:00 CET"),
        (NIGHT, "2027-01-11T07:00:00", None),
        (NIGHT, "2026-12-31T23:59:59", "01-01 07:00:00 CET"),
        (LUNCH, "2027-07-01T12:00:00", "07-01 13:30:00 CEST"),
        (LUNCH, "2027-07-01T13:30:00", None),
        # A night of 23 hours and one of 25: the clock on the wall decides.
        (NIGHT, "2027-03-27T23:00:00", "03-28 07:00:00 CEST"),
        (NIGHT, "2027-10-30T23:00:00", "10-31 07:00:00 CET"),
    ],
)  # fmt: skip
def test_quiet_hours_over_midnight_and_through_clock_changes(quiet, now, until):
    found = quiet_until(quiet, at(now))
    assert (None if found is None else shown(found)) == until


def test_an_end_that_the_clock_skips_is_when_it_is_put_forward():
    quiet = replace(NIGHT, end="02:30")  # in Berlin 02:00 to 03:00 does not exist that night
    assert shown(quiet_until(quiet, at("2027-03-28T01:00:00"))) == "03-28 03:00:00 CEST"


def test_an_hour_that_happens_twice_is_quiet_by_what_the_clock_shows():
    quiet = replace(NIGHT, end="02:30")
    first = quiet_until(quiet, at("2027-10-31T01:00:00"))
    assert shown(first) == "10-31 02:30:00 CEST"
    second = quiet_until(quiet, at("2027-10-31T02:10:00", fold=1))
    assert shown(second) == "10-31 02:30:00 CET"


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
         "Pacific/Apia", "America/Sao_Paulo"]  # fmt: skip
SPRING = datetime(2027, 10, 2, 15, tzinfo=UTC)
"""Half an hour is skipped on Lord Howe a little later."""
CLOCK = st.times().map(lambda one: one.strftime("%H:%M"))


@settings(max_examples=400, deadline=None)
@given(CLOCK, CLOCK, st.sampled_from(ZONES), st.integers(1_500_000_000, 1_900_000_000))
@example("22:00", "02:10", "Australia/Lord_Howe", int(SPRING.timestamp()))
def test_quiet_hours_end_when_the_clock_says_so(start, end, zone, now):
    if start == end:
        return
    quiet = QuietHours(start=start, end=end, zone=zone)
    until = quiet_until(quiet, now)
    if until is None:
        return
    assert now < until <= now + 26 * 3600
    assert quiet_until(quiet, until) is None, "it is over then"
    assert until - now < 1 or quiet_until(quiet, until - 1) is not None, "and not before"


def test_critical_incidents_pass_the_quiet_hours_where_they_may():
    now = at("2027-01-10T23:00:00")
    for severity, passes, waits in [
        (WARNING, True, True), (CRITICAL, True, False), (CRITICAL, False, True),
    ]:  # fmt: skip
        quiet = replace(NIGHT, critical_passes=passes)
        [one] = deliveries(incident(severity), "p", [route(quiet=quiet)], now)
        assert one.quiet == waits
        if waits:
            assert shown(one.due_at) == "01-11 07:00:00 CET"
            assert one.expires_at == one.due_at + GIVE_UP_S, "a whole day is left to deliver it"


def test_a_time_zone_that_is_gone_silences_nothing():
    quiet = QuietHours(start="00:00", end="23:59", zone="Europe/Atlantis")
    [one] = deliveries(incident(CRITICAL), "p", [route(quiet=quiet)], NOW)
    assert not one.quiet
