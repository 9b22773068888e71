"""The HTTP routes of runs, points, incidents and the page, on a real server."""

from __future__ import annotations

import json
import math
import sqlite3
import threading

import numpy as np
import pytest

from nanwatch.contract import frames as f
from nanwatch.contract.commands import ControlOffer
from nanwatch_server.api import static
from nanwatch_server.auth.rules import collect
from nanwatch_server.ingest.intake import Job
from nanwatch_server.store.sql import FILE_NAME
from tests.server.ingest.test_first_light import eventually, ids_of, query
from tests.server.live.test_live_socket import browser, until, watch
from tests.server.wire import RUN, Wire, table


def train(server, run=RUN, steps=0, **given):
    """A run with `steps` points of a loss; the connection is closed again."""
    with Wire(server.url, server.token) as wire:
        wire.hello(run=run, **given)
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
        for first, begin in enumerate(range(0, steps, 4096)):
            numbers = np.arange(begin, min(begin + 4096, steps))
            wire.send(
                f.Batch(
                    lane="scalars",
                    first=first,
                    records=[table([1], numbers, [np.sin(numbers / 99.0)])],
                )
            )
            wire.acked("scalars", first)


def test_a_run_says_what_it_is_and_allows(server):
    offer = ControlOffer(lr=(1e-7, math.inf), checkpoint=True)
    with Wire(server.url, server.token) as wire:
        wire.hello(name="my run/1", config={"lr": "nan"}, facts={"host": "h"}, control=offer)
        run = server.get(f"/api/runs/{RUN}")
        assert (run["name"], run["project"], run["status"]) == ("my_run/1", "p", "live")
        assert run["controls"] == ["set_lr", "scale_lr", "checkpoint"]
        assert run["control"]["lr"] == ["1e-07", "Infinity"]
        assert run["config"] == {"lr": "nan"} and run["severity"] is None


def test_runs_are_found_and_paged(server):
    for i in range(5):
        train(server, run=f"{i:032x}", name=f"run-{i}", project="a" if i % 2 else "b")
    page = server.get("/api/runs", limit=3)
    rest = server.get("/api/runs", limit=3, after=page["next"])
    names = [run["name"] for run in page["runs"] + rest["runs"]]
    assert names == [f"run-{i}" for i in (4, 3, 2, 1, 0)] and rest["next"] is None
    assert [r["name"] for r in server.get("/api/runs", q="run-2")["runs"]] == ["run-2"]
    assert len(server.get("/api/runs", project="a")["runs"]) == 2
    assert server.get("/api/runs", status="ended")["runs"] == []
    assert len(server.get("/api/runs", status="live", limit=2)["runs"]) == 2


def test_runs_by_status_are_those_that_have_it(server):
    """The database sorts out by what is stored; who is connected it cannot know."""
    ids = {name: f"{i:032x}" for i, name in enumerate(("ended", "lost", "live", "back", "fresh"))}
    for name, run in ids.items():
        train(server, run=run, name=name)
    eventually(lambda: not server.parts.presence.connected_runs())
    written = threading.Event()  # what the ends of the connections still write down
    server.parts.intake.submit(Job(lambda uow: None, lambda _: written.set(), print))
    assert written.wait(30)
    with server.parts.store.write() as uow:
        uow.end_run(ids["ended"], at=1.0, reason="finished", exit_code=0)
    with sqlite3.connect(server.data_dir / FILE_NAME) as db:
        silent = [(ids[name],) for name in ("lost", "back")]
        db.executemany("UPDATE runs SET last_seen_at = 5 WHERE id = ?", silent)
    db.close()
    for run in (ids["lost"], ids["back"]):
        server.parts.presence._runs.pop(run)  # as after a restart of the server
    with Wire(server.url, server.token) as wire:
        wire.hello(run=ids["back"], name="back")
        with sqlite3.connect(server.data_dir / FILE_NAME) as db:
            db.execute("UPDATE runs SET last_seen_at = 5 WHERE id = ?", (ids["back"],))
        db.close()
        every = {run["name"]: run["status"] for run in server.get("/api/runs")["runs"]}
        assert every == {
            "ended": "ended", "lost": "lost", "live": "live", "back": "live", "fresh": "live"
        }  # fmt: skip
        for status in ("live", "stalled", "lost", "ended"):
            found, after = [], ""
            while after is not None:
                page = server.get("/api/runs", status=status, limit=2, after=after)
                found += [run["name"] for run in page["runs"]]
                after = page["next"]
            wanted = [name for name, known in every.items() if known == status]
            assert found == wanted, status


def test_points_of_any_range(server):
    train(server, steps=20_000)
    ids = [*ids_of(server).values()]
    eventually(lambda: query(server, ids, buckets=20_000)[1][0]["steps"].size == 20_000)
    header, [columns] = query(server, ids, buckets=500)
    assert columns["mode"] == "buckets" and len(columns["count"]) <= 500
    assert columns["count"].sum() == 20_000 and (header["x0"], header["x1"]) == (0, 19_999)
    header, [columns] = query(server, ids, x0=100, x1=149, buckets=500)
    assert columns["mode"] == "raw" and columns["steps"].tolist() == list(range(100, 150))
    assert (columns["values"] == np.sin(np.arange(100, 150) / 99.0)).all()
    twice = [
        server.http.get(f"/api/runs/{RUN}/series", params={"ids": ids[0], "buckets": 99}).content
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/runs/nope", 404),
        ("/api/runs/nope/incidents", 404),
        ("/api/incidents/nope", 404),
        ("/api/nope", 404),
        ("/api/runs?limit=0", 422),
        ("/api/runs?limit=x", 422),
        ("/api/runs?after=-1", 422),
        ("/api/runs?after=999999999999999999", 200),
        (f"/api/runs/{RUN}/series", 422),
        (f"/api/runs/{RUN}/series?ids=1,x", 422),
        (f"/api/runs/{RUN}/series?ids=99999", 422),
        (f"/api/runs/{RUN}/series?ids=1&x0=9&x1=3", 422),
        (f"/api/runs/{RUN}/series?ids=1&x0=99999999999999999999", 422),
    ],
)
def test_errors_have_one_form(server, path, status):
    train(server)
    answer = server.http.get(path)
    assert answer.status_code == status
    if status != 200:
        error = answer.json()["error"]
        assert set(error) == {"code", "message"} and error["message"]
    assert answer.headers["cache-control"] == "no-store"


def test_writes_are_strict(server):
    for path, body in (
        ("/api/incidents/x/snooze", {"seconds": "60"}),
        ("/api/incidents/x/snooze", {"seconds": True}),
        ("/api/incidents/x/snooze", {"seconds": 60, "until_worse": True}),
        ("/api/incidents/x/snooze", {}),
        ("/api/incidents/x/snooze", {"other": 1}),
    ):
        assert server.http.post(path, json=body).status_code == 422, body
    assert server.http.post("/api/incidents/x/resolve", json={}).status_code == 404
    assert server.http.post("/api/incidents/x/snooze", json={"seconds": 60}).status_code == 404


def test_every_answer_forbids_scripts_of_others(server):
    for path in ("/", "/api/runs", "/api/nope", "/healthz"):
        headers = server.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert "unsafe-eval" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A built page in a folder of the test."""
    root = tmp_path / "static"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<title>page</title>")
    (root / "assets" / "app-1a2b.js").write_text("1;")
    (root / "assets" / "app-1a2b.js.br").write_bytes(b"packed")
    (root / ".built-from").write_text("digest")
    (tmp_path / "secret").write_text("secret")
    files = static.static_files
    monkeypatch.setattr(static, "static_files", lambda: files(root))


def test_the_page_its_own_routes_and_nothing_else(built, start):
    server = start()
    for path in ("/", "/login", f"/r/{RUN}", "/.built-from", "/secret"):
        answer = server.http.get(path)
        assert answer.text == "<title>page</title>", path
        assert answer.headers["cache-control"] == "no-cache"
    packed = server.http.get("/assets/app-1a2b.js", headers={"Accept-Encoding": "gzip"})
    assert packed.text == "1;" and "immutable" in packed.headers["cache-control"]
    assert "javascript" in packed.headers["content-type"]
    with server.http.stream(
        "GET", "/assets/app-1a2b.js", headers={"Accept-Encoding": "br"}
    ) as answer:
        assert answer.headers["content-encoding"] == "br"
        assert b"".join(answer.iter_raw()) == b"packed"
    for path in ("/assets/%2e%2e/%2e%2e/secret", "/..%2fsecret", "//secret"):
        assert "secret" not in server.http.get(path).text


def test_without_a_built_page_the_root_says_how_to_build_it(monkeypatch, start):
    monkeypatch.setattr(static, "static_files", dict)
    assert "hatch_build.py" in start().http.get("/").text


NUMBERS = {
    "created_at", "started_at", "last_seen_at", "ended_at", "opened_at", "updated_at", "time",
    "resolved_at", "snoozed_until", "expires_at", "at", "confidence", "args",
}  # fmt: skip
"""Keys under which a number with a fraction may stand: times, shares and what a person asked."""


def innermost(value, key=""):
    """The nearest key of every float; `args` stands for all that is in it."""
    if isinstance(value, dict):
        pairs = ((name if key != "args" else key, item) for name, item in value.items())
        return {found for name, item in pairs for found in innermost(item, name)}
    if isinstance(value, list):
        return {found for item in value for found in innermost(item, key)}
    return {key} if isinstance(value, float) else set()


def test_no_metric_travels_as_a_json_number(server):
    """In no answer and no header of the live socket; and JSON stays valid for any parser."""
    heads = []
    with Wire(server.url, server.token) as wire, browser(server) as page:
        watch(page, "run", run=RUN)
        watch(page, "wall")
        offer = ControlOffer(lr=(1e-6, 1e-2), lr_factor=(0.1, 1.0), checkpoint=True)
        wire.hello(control=offer, config={"lr": "0.25"})
        kinds = ("loss", "grad_norm", "lr", "lr_scheduled")
        wire.send(f.Declare(series=[f.SeriesDecl(i, kind) for i, kind in enumerate(kinds)]))
        steps, rate = np.arange(400), np.full(400, 3e-4)
        loss = np.where(steps < 350, 2.5, math.nan)
        values = np.array([loss, np.where(steps < 340, 1.5, 1e30), rate, rate])
        wire.send(f.Batch(lane="scalars", first=0, records=[table([0, 1, 2, 3], steps, values)]))
        wire.acked("scalars", 0)
        wire.send(f.Beat(step=399, wall=1.5, overhead=math.inf))
        [incident] = eventually(lambda: server.get(f"/api/runs/{RUN}/incidents")["incidents"])
        eventually(lambda: server.parts.vitals.rates(RUN)[0])
        body = {"kind": "scale_lr", "args": {"factor": 0.5}, "if_lr": "0.0003"}
        path, key = f"/api/runs/{RUN}/commands", {"Idempotency-Key": "k"}
        made = server.http.post(path, json=body, headers=key).json()
        wire.send(f.Accepted(id=wire.until(f.Command).id, nonce=1))
        wire.until(f.Go)
        word = {"before": {"": 3e-4}, "after": {"": math.nan}, "factor": 0.5}
        events = [
            f.CommandResult(id=made["id"], state="applied", time=1.5, step=400, **word),
            f.Mark(what="note", step=1, time=2.5, data={"x": "0.5"}),
            f.NonFinite(step=350, time=2.5, where="loss", nan=1, total=1),
            f.CheckpointSaved(step=350, time=2.5, path="x", bytes=1, sha256="y"),
        ]
        wire.send(f.Batch(lane="events", first=0, records=events))
        wire.acked("events", 3)
        server.http.post(f"/api/incidents/{incident['id']}/snooze", json={"until_worse": True})
        until(page, "event", lambda head: heads.append(head) or "checkpoint" in head)
        until(page, "wall", lambda head: heads.append(head) or head["runs"])

    def refuse(text):
        raise AssertionError(f"not JSON: {text}")

    gets = [rule.path for rule in collect(server.parts.api.routes) if "GET" in rule.methods]
    paths = [p for p in gets if p.startswith("/api/") and not p.endswith(("/series", "/export"))]
    assert len(paths) >= 10
    answers = [
        server.http.get(
            p.replace("{run}", RUN).replace("{incident}", incident["id"]),
            params={"project": "default"},
        )
        for p in paths
    ]
    assert {answer.status_code for answer in answers} == {200}
    said = [json.loads(answer.text, parse_constant=refuse) for answer in answers]
    assert set().union(*map(innermost, [*said, *heads])) <= NUMBERS
    shown = server.get(path)["commands"][0]
    assert (shown["before"], shown["factor"]) == ({"": "0.0003"}, "0.5")
    assert server.get(f"/api/runs/{RUN}")["beat"]["overhead"] == "Infinity"
    assert all(isinstance(one["value"], str) for one in incident["evidence"])
