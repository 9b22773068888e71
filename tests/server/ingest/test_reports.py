"""Forensics, non-finite reports, problems and coverage: from the wire to the API and the page."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanwatch.contract import frames as f
from tests.server.ingest.test_first_light import eventually
from tests.server.live.test_live_socket import browser, explode, scalars, until, watch
from tests.server.wire import RUN, Wire

FOUND = f.Forensics(
    step=410,
    time=1000.0,
    trigger="gradient",
    scope="policy",
    verdict="layer",
    cause="overflow",
    first_forward="layers.17",
    first_backward="head",
    producers=["layers.17"],
    propagators=["layers.18", "head"],
    text="layers.17 made an infinity from finite inputs.",
    recorder_path="/runs/a/flight-410.npz",
    checkpoint_path="/runs/a/before-410.pt",
    facts={"batch_index": "409", "dtype": "float16"},
    tracing_steps=50,
)


def events(first, *records, lane: f.Lane = "events"):
    return f.Batch(lane=lane, first=first, records=list(records))


def test_forensics_arrive_whole_at_the_api_and_live(server):
    with Wire(server.url, server.token) as wire, browser(server) as page:
        wire.hello(rank=3, world=4)
        watch(page, "run", run=RUN)
        until(page, "run")
        wire.send(events(0, FOUND))
        live = until(page, "event", lambda h: "forensics" in h)[0]["forensics"]
        wire.acked("events", 0)
    [stored] = server.get(f"/api/runs/{RUN}/events")["forensics"]
    said = {name: getattr(FOUND, name) for name in FOUND.__struct_fields__ if name != "time"}
    for shown in (live, stored):
        assert shown.pop("at") > 1e9
        assert shown == said | {"rank": 3}


def test_forensics_stand_in_the_incident_they_explain_also_when_late(server):
    with Wire(server.url, server.token) as wire, browser(server) as page:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "grad_norm")]))
        watch(page, "run", run=RUN)
        upto = explode(wire, 0, 0, 420)
        wire.acked("scalars", upto - 1)
        incident = until(page, "incident")[0]["incident"]
        assert incident["forensics"] == []
        unrelated = f.Forensics(step=10, time=1.0, trigger="command", text="nothing found")
        wire.send(events(0, unrelated, FOUND))
        told = until(page, "incident", lambda h: h["incident"]["forensics"])[0]["incident"]
    for shown in (told, server.get(f"/api/incidents/{incident['id']}")):
        assert [one["first_forward"] for one in shown["forensics"]] == ["layers.17"]
        assert shown["id"] == incident["id"]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (f.Forensics(step=1, time=math.nan, trigger="loss"), "time"),
        (f.Forensics(step=-2, time=1.0, trigger="loss"), "step"),
        (f.Forensics(step=1, time=1.0, trigger="loss", producers=["a"] * 33), "size"),
        (f.Forensics(step=1, time=1.0, trigger="loss", propagators=["a"] * 33), "size"),
        (f.Forensics(step=1, time=1.0, trigger="loss", text="x" * 9000), "text"),
        (f.Forensics(step=1, time=1.0, trigger="loss", facts={"rng": "x" * 9000}), "text"),
        (
            f.Forensics(step=1, time=1.0, trigger="loss", facts={str(i): "" for i in range(257)}),
            "size",
        ),
        (f.Forensics(step=1, time=1.0, trigger="loss", tracing_steps=-1), "count"),
        (f.Forensics(step=1, time=1.0, trigger="boredom"), "unsupported"),  # type: ignore[arg-type]
        (f.NonFinite(step=1, time=1.0, where="moment", layers=["a"] * 33), "size"),
        (f.NonFinite(step=1, time=1.0, where="buffer", nan=-1), "count"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_report_out_of_bounds_is_refused_alone(server, record, code):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        good = f.Forensics(step=7, time=1.0, trigger="loss", verdict="loss")
        wire.send(events(0, good, record, good))
        reject = wire.until(f.Reject)
        assert (reject.first, reject.last, reject.code) == (1, 1, code)
        wire.acked("events", 2)
    assert len(server.get(f"/api/runs/{RUN}/events")["forensics"]) == 2


def test_every_place_of_a_nonfinite_value_and_the_rank_that_met_it(server):
    places = ["loss", "gradient", "parameter", "buffer", "moment", "watched", "logged"]
    with Wire(server.url, server.token) as wire:
        wire.hello(rank=1, world=2)
        reports = [f.NonFinite(step=i, time=1.0, where=w, nan=1) for i, w in enumerate(places)]  # type: ignore[arg-type]
        wire.send(events(0, *reports, f.Problem(time=1.0, kind="probe q", count=3, text="E")))
        wire.acked("events", len(places))
    found = server.get(f"/api/runs/{RUN}/events")
    assert [(one["where"], one["rank"]) for one in found["nonfinite"]] == [(w, 1) for w in places]
    assert [(one["kind"], one["count"], one["rank"]) for one in found["problems"]] == [
        ("probe q", 3, 1)
    ]


def coverage(step, **what):
    return f.Mark(what="coverage", step=step, time=1.0, text="what is measured", data=what)


def test_the_newest_coverage_of_rank_0_is_part_of_the_run_and_no_mark(server, start):
    with Wire(server.url, server.token) as wire, browser(server) as page:
        wire.hello()
        watch(page, "run", run=RUN)
        assert until(page, "run")[0]["run"]["coverage"] is None
        every = {"gradient norms": "every 8"}
        wire.send(events(0, coverage(1, loss="every attempt"), lane="scalars"))
        wire.send(events(1, coverage(9, **every, more="x" * 9000), lane="scalars"))
        assert wire.until(f.Reject).code == "text"
        wire.send(events(2, coverage(12, **every, long="x" * 8000), lane="scalars"))
        wire.acked("scalars", 2)
        shown = until(page, "run", lambda h: (h["run"]["coverage"] or {}).get("step") == 12)[0]
        with Wire(server.url, server.token) as other:
            other.hello(rank=1, world=2)
            other.send(events(0, coverage(99, loss="never"), lane="scalars"))
            other.acked("scalars", 0)
    kept = shown["run"]["coverage"]["what"]
    assert kept == {"gradient norms": "every 8", "long": "x" * 500}
    assert server.get(f"/api/runs/{RUN}/events")["marks"] == []
    server.stop()
    assert start().get(f"/api/runs/{RUN}")["coverage"]["what"] == kept


def test_an_older_process_does_not_say_what_is_measured_now(server):
    with Wire(server.url, server.token) as wire:
        wire.hello(epoch=1)
        with Wire(server.url, server.token) as newer:
            newer.hello(epoch=2, parent_epoch=1)
            newer.send(events(0, coverage(5, loss="every attempt"), lane="scalars"))
            newer.acked("scalars", 0)
            with Wire(server.url, server.token) as backfill:
                backfill.hello(epoch=1)
                backfill.send(events(0, coverage(4, loss="every 16"), lane="scalars"))
                backfill.acked("scalars", 0)
    assert server.get(f"/api/runs/{RUN}")["coverage"]["what"] == {"loss": "every attempt"}


def test_updates_held_by_the_guard_are_a_streak(server):
    """Reason 3 explains a skip by itself, also where no norm is measured."""
    with Wire(server.url, server.token) as wire:
        wire.hello()
        kinds = ("update_applied", "skip_reason", "grad_norm")
        wire.send(f.Declare(series=[f.SeriesDecl(i, kind) for i, kind in enumerate(kinds)]))
        steps = np.arange(200)
        held = steps >= 100
        values = [~held * 1.0, held * 3.0, np.ones(200)]
        wire.send(scalars(0, steps, values, (0, 1, 2)))
        wire.acked("scalars", 0)
        [one] = eventually(lambda: server.get(f"/api/runs/{RUN}/incidents")["incidents"])
    assert one["findings"][0]["rule"] == "skip_streak" and one["onset_step"] == 100
