"""What a browser sees over the live socket of a real server, from points to incidents."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from nanwatch.contract import frames as f
from nanwatch_server.live.frames import block, read
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import RUN, Wire, table


def browser(server, **headers):
    given = {"Cookie": server.cookie, "Origin": server.url} | headers
    given = {name: value for name, value in given.items() if value is not None}
    origin = given.pop("Origin", None)
    url = server.url.replace("http", "ws", 1) + "/live"
    return connect(url, additional_headers=given, origin=origin, proxy=None, close_timeout=1)


def until(socket, kind, accept=lambda header: True, seconds=10.0):
    """The next frame of this type that is accepted."""
    end = time.monotonic() + seconds
    while True:
        header, blocks = read(socket.recv(max(end - time.monotonic(), 0.01)))
        if header["type"] == kind and accept(header):
            return header, blocks


def watch(socket, topic, **more):
    socket.send(json.dumps({"type": "watch", "topic": topic, **more}))


def scalars(first, steps, values, ids=(1,)):
    return f.Batch(lane="scalars", first=first, records=[table(list(ids), steps, values)])


def test_points_events_and_status_reach_who_watches(server):
    with Wire(server.url, server.token) as wire, browser(server) as page:
        assert until(page, "hello")[0]["role"] == "admin"
        wire.hello(name="lstm")
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "grad_norm")]))
        wire.send(scalars(0, [0], [[1.0], [2.0]], (1, 2)))
        wire.acked("scalars", 0)
        watch(page, "run", run=RUN)
        run = until(page, "run", lambda h: len(h["run"]["series"]) == 2)[0]["run"]
        assert (run["name"], run["status"]) == ("lstm", "live")
        wire.send(scalars(1, [1, 2], [[math.nan, -0.0], [math.inf, 1e-320]], (1, 2)))
        header, blocks = until(page, "points", lambda h: h["tables"][0]["n"] >= 2)
        [one] = header["tables"]  # with the first point, if that was still on its way
        assert one["series"] == [series["id"] for series in run["series"]]
        values = block(blocks, one["values"], 2, one["n"])[:, -2:]
        assert values.tobytes() == np.array([[math.nan, -0.0], [math.inf, 1e-320]]).tobytes()
        assert block(blocks, one["steps"], one["n"]).tolist()[-2:] == [1, 2]
        bad = f.NonFinite(step=1, time=1.0, where="loss", nan=1, total=1, layers=["head"])
        wire.send(f.Batch(lane="events", first=0, records=[bad]))
        event = until(page, "event")[0]
        assert event["nonfinite"]["layers"] == ["head"] and event["run"] == RUN
        wire.send(f.Bye(events=0, scalars=1, reason="finished", exit_code=0))
        until(page, "run", lambda h: h["run"]["status"] == "ended")
    events = server.get(f"/api/runs/{RUN}/events")
    assert events["nonfinite"][0]["where"] == "loss"


def test_the_wall_shows_each_run_and_changes_with_it(server):
    with Wire(server.url, server.token) as wire, browser(server) as page:
        watch(page, "wall")
        assert until(page, "wall")[0]["runs"] == []
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
        wire.send(scalars(0, np.arange(50), [np.linspace(3, 1, 50)]))
        header, blocks = until(page, "wall", lambda h: h["runs"] and h["sparks"][RUN]["n"])
        [run] = header["runs"]
        columns = header["columns"]
        row = dict(zip(columns, block(blocks, header["vitals"], 1, len(columns))[0], strict=True))
        assert run["row"] == 0 and row["loss"] == 1.0 and row["step"] == 49
        assert math.isnan(row["grad_norm"])
        line = header["sparks"][RUN]
        assert block(blocks, line["offset"], line["n"])[0] == 3.0


def test_strangers_are_refused_before_accept(server):
    for headers in ({"Cookie": None}, {"Origin": None}, {"Origin": "http://evil.example"}):
        with pytest.raises(InvalidStatus) as refused, browser(server, **headers):
            pass
        assert refused.value.response.status_code in (401, 403)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type":"watch","topic":"run","run":"../x"}'])
def test_nonsense_closes_the_socket(server, text):
    with browser(server) as page:
        page.send(text)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                page.recv(5)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4400


def explode(wire, first, begin, count, batch=10):
    """A gradient norm that doubles every 8 steps behind a healthy start."""
    steps = np.arange(begin, begin + count)
    norms = np.where(steps < 300, 1.0 + 0.05 * np.sin(steps), 2.0 ** ((steps - 300) / 8.0))
    for i in range(0, count, batch):
        part = slice(i, i + batch)
        wire.send(
            scalars(first, steps[part], [2 + 0.01 * np.cos(steps[part]), norms[part]], (1, 2))
        )
        first += 1
    return first


def test_an_explosion_becomes_one_incident_also_after_a_restart(server, start):
    with Wire(server.url, server.token) as wire, browser(server) as page:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss"), f.SeriesDecl(2, "grad_norm")]))
        watch(page, "run", run=RUN)
        upto = explode(wire, 0, 0, 420)
        wire.acked("scalars", upto - 1)
        shown = until(page, "incident")[0]["incident"]
        assert shown["run_id"] == RUN and shown["severity"] in ("warning", "critical")
        assert shown["onset_step"] >= 290 and shown["evidence"]
    path = f"/api/incidents/{shown['id']}"
    answer = server.http.post(f"{path}/acknowledge", json={})
    assert answer.json()["state"] == "acknowledged"
    known = {one["id"]: one["count"] for one in server.get("/api/incidents")["incidents"]}
    server.stop()
    again = start()
    with Wire(again.url, again.token) as wire:
        assert wire.hello().scalars == upto - 1
        wire.send(scalars(upto, [420], [[2.0], [2.0**15]], (1, 2)))
        wire.acked("scalars", upto)
    eventually(lambda: again.get(f"/api/runs/{RUN}")["last_step"] == 420)
    time.sleep(0.3)
    after = again.get(f"/api/runs/{RUN}/incidents")["incidents"]
    assert {one["id"] for one in after} == set(known)
    assert again.get(path)["acknowledged_by"].startswith("browser:")
    assert again.get(path)["reopened"] == 0
