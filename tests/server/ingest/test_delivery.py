"""Exactly once, in order, durable before the ack: under duplicates, reconnects and kill -9."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nanwatch.contract import frames as f
from nanwatch_server.store import sqlite
from nanwatch_server.store.replay import replay
from nanwatch_server.store.sql import SqlStore
from tests.server.ingest.test_first_light import eventually, ids_of, query
from tests.server.wire import RUN, Wire, hello, table


def declared(wire, **given):
    """Hello and one declared series; returns the welcome."""
    welcome = wire.hello(**given)
    wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
    return welcome


def batch(first, count=1, start=None, lane="scalars"):
    """`count` records of 4 steps each; the value of a step is its number."""
    records = []
    for i in range(first, first + count):
        steps = np.arange(4) + 4 * (i if start is None else start)
        records.append(table([1], steps, [steps.astype(float)]))
    return f.Batch(lane=lane, first=first, records=records)


def stored_steps(server):
    ids = ids_of(server)
    if ("loss", "", "") not in ids:
        return []
    _, [columns] = query(server, [ids["loss", "", ""]], buckets=20000)
    assert (columns["steps"] == columns["values"]).all()
    return columns["steps"].tolist()


def closed_with(wire):
    """The close code the server gives."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            wire.receive()
    return closed.value.rcvd.code


def test_duplicates_and_overlaps_are_stored_once(server):
    with Wire(server.url, server.token) as wire:
        declared(wire)
        for first, count in ((0, 3), (0, 3), (1, 2), (2, 4), (0, 6), (5, 2)):
            wire.send(batch(first, count))
        wire.acked("scalars", 6)
    with Wire(server.url, server.token) as wire:  # the same process comes back
        assert declared(wire).scalars == 6
        wire.send(batch(4, 5))
        wire.acked("scalars", 8)
    eventually(lambda: stored_steps(server) == list(range(36)))


def test_a_hole_is_refused_and_the_client_resumes(server):
    with Wire(server.url, server.token) as wire:
        declared(wire)
        wire.send(batch(0, 2))
        wire.send(batch(3))
        assert closed_with(wire) == 4400
    with Wire(server.url, server.token) as wire:
        welcome = declared(wire)
        assert welcome.scalars == 1
        wire.send(f.Gap(lane="scalars", first=2, last=4, reason="spool-full", points=12))
        wire.send(batch(5))
        wire.acked("scalars", 5)
    eventually(lambda: stored_steps(server) == [*range(8), *range(20, 24)])
    server.stop()
    store = SqlStore(server.data_dir)
    assert [(g["first"], g["last"], g["points"]) for g in store.gaps(RUN)] == [(2, 4, 12)]
    store.close()


def test_lanes_and_epochs_count_apart(server):
    with Wire(server.url, server.token) as wire:
        declared(wire)
        wire.send(batch(0))
        wire.send(f.Batch(lane="events", first=0, records=[f.Mark(what="note", step=1, time=2.0)]))
        wire.acked("events", 0)
        wire.send(f.Beat(step=9, wall=1.0, queued=3, dropped={"rate": 5}, overhead=0.004))
        eventually(lambda: server.get(f"/api/runs/{RUN}")["beat"]["queued"] == 3)
    assert server.get(f"/api/runs/{RUN}")["beat"] == {
        "queued": 3,
        "dropped": {"rate": 5},
        "overhead": "0.004",
    }
    with Wire(server.url, server.token) as wire:
        welcome = declared(wire, epoch=2, started_at=2000.0)
        assert (welcome.events, welcome.scalars) == (-1, -1)


def test_a_newer_process_fences_the_older_one_which_may_still_hand_in(server):
    with Wire(server.url, server.token) as old, Wire(server.url, server.token) as new:
        declared(old)
        old.send(batch(0))
        old.acked("scalars", 0)
        declared(new, epoch=2, started_at=2000.0)
        assert closed_with(old) == 4409
        with Wire(server.url, server.token) as again:
            assert declared(again).scalars == 0
            again.send(batch(1))
            again.acked("scalars", 1)
            again.send(f.Bye(events=-1, scalars=1, reason="done", exit_code=0))
            new.send(batch(0, start=50))  # and the newer one is not disturbed
            new.acked("scalars", 0)
    eventually(lambda: stored_steps(server) == [*range(8), *range(200, 204)])
    assert server.get(f"/api/runs/{RUN}")["ended_at"] is None  # only the live process can end it


def test_the_run_ends_only_when_all_of_it_is_stored(server):
    with Wire(server.url, server.token) as wire:
        declared(wire)
        wire.send(batch(0))
        wire.send(f.Bye(events=-1, scalars=3, reason="finished", exit_code=0))
        wire.acked("scalars", 0)
        assert server.get(f"/api/runs/{RUN}")["status"] == "live"
        wire.send(batch(1, 3))
        wire.send(f.Bye(events=-1, scalars=3, reason="finished", exit_code=0))
        eventually(lambda: server.get(f"/api/runs/{RUN}")["status"] == "ended")
    run = server.get(f"/api/runs/{RUN}")
    assert (run["end_reason"], run["exit_code"], run["controls"]) == ("finished", 0, [])


def bad_records():
    good = table([1], [0], [[1.0]])
    return {
        "shape": msgspec.structs.replace(good, values=b"\0" * 7),
        "undeclared": table([1, 77], [0], [[1.0], [2.0]]),
        "step": table([1], [-1], [[1.0]]),
        "time": table([1], [0], [[1.0]], times=[np.nan]),
        "text": f.Mark(what="note", step=0, time=1.0, text="x" * 10_000),
        "bytes": f.CheckpointSaved(step=0, time=1.0, path="", bytes=1 << 63, sha256=""),
    }


@pytest.mark.parametrize("code", sorted(bad_records()))
def test_a_bad_record_is_refused_alone(server, code):
    with Wire(server.url, server.token) as wire:
        declared(wire)
        good = batch(0, 5).records
        good[2] = bad_records()[code]
        wire.send(f.Batch(lane="scalars", first=0, records=good))
        reject = wire.until(f.Reject)
        assert (reject.lane, reject.first, reject.last, reject.code) == ("scalars", 2, 2, code)
        wire.acked("scalars", 4)
        wire.send(batch(5))
        wire.acked("scalars", 5)
    eventually(lambda: stored_steps(server) == [*range(8), *range(12, 24)])


def test_an_unknown_record_or_frame_is_refused_and_the_rest_goes_on(server):
    with Wire(server.url, server.token) as wire:
        declared(wire)
        raw = msgspec.msgpack.decode(f.encode(batch(0, 3)))
        raw["records"][1] = {"t": "hologram", "step": 3}
        wire.send(msgspec.msgpack.encode(raw))
        reject = wire.until(f.Reject)
        assert (reject.first, reject.code) == (1, "unsupported")
        wire.acked("scalars", 2)
        wire.send(msgspec.msgpack.encode({"t": "wave", "hello": 1}))
        assert wire.until(f.Reject).code == "unsupported"
        wire.send(msgspec.msgpack.encode(raw | {"first": 3, "later": 1}))  # unknown field: ignored
        wire.acked("scalars", 5)
    eventually(lambda: len(stored_steps(server)) == 16)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x91" * 4000, b"hello", msgspec.msgpack.encode([1]), b"\x00" * 1000],
    ids=["empty", "reserved", "deep", "text", "list", "zeros"],
)
def test_what_is_no_frame_closes_only_that_connection(server, data):
    with Wire(server.url, server.token) as good, Wire(server.url, server.token) as bad:
        declared(good)
        bad.hello(run="cd" * 16)
        bad.send(data)
        assert closed_with(bad) == 4400
        good.send(batch(0))
        good.acked("scalars", 0)


def test_handshakes_that_are_refused(server):
    for given, code in (
        ({"proto": [7]}, 4426),
        ({"run": "not-a-run"}, 4400),
        ({"epoch": 1 << 60}, 4400),
        ({"rank": -1}, 4400),
        ({"started_at": float("nan")}, 4400),
    ):
        with Wire(server.url, server.token) as wire:
            wire.send(hello(**given))
            assert closed_with(wire) == code, given
    with Wire(server.url, server.token) as wire:
        wire.send(batch(0))
        assert closed_with(wire) == 4400
    with Wire(server.url, server.token, subprotocols=None) as wire:
        assert closed_with(wire) == 4426
    assert server.get("/api/runs")["runs"] == []


def test_strangers_are_refused_before_accept(server):
    for token, headers, status in (
        (None, {}, 401),
        ("nw_ingest_" + "A" * 43, {}, 401),
        (server.token, {"Origin": "http://evil.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            Wire(server.url, token, headers=headers)
        assert refused.value.response.status_code == status
    answer = server.http.get("/api/runs", headers={"Host": "evil.example"})
    assert answer.status_code in (400, 403, 421) and "error" in answer.json()


def test_a_run_stays_in_its_project(server):
    made = server.http.post("/api/tokens", json={"role": "ingest", "project": "mine"}).json()
    with Wire(server.url, made["token"]) as wire:
        wire.send(hello(project="other"))
        assert closed_with(wire) == 4403
    with Wire(server.url, made["token"]) as wire:
        wire.hello(project="mine")
    with Wire(server.url, server.token) as wire:
        wire.send(hello(project="other"))  # an existing run cannot be moved either
        assert closed_with(wire) == 4403


def test_who_says_nothing_is_shown_out(server):
    assert server.parts.gateway._handshake_s == 5.0
    server.parts.gateway._handshake_s = 0.5
    with Wire(server.url, server.token) as silent:
        begin = time.monotonic()
        assert closed_with(silent) == 4408
        assert 0.4 < time.monotonic() - begin < 4


_SERVE = """
import json, sys
from nanwatch_server.app import run_server
from nanwatch_server.settings import Settings
def ready(info):
    print(json.dumps([info.url, info.ingest_token]), flush=True)
run_server(Settings(data_dir=sys.argv[1], port=0), on_ready=ready)
"""


def serve(directory):
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url, token = json.loads(process.stdout.readline())
    return process, url, token


def test_nothing_acked_is_lost_or_doubled_by_kill_9(tmp_path):
    acked, sent, seq = -1, 0, 0
    for life in range(4):
        process, url, token = serve(tmp_path)
        try:
            with Wire(url, token) as wire:
                seq = declared(wire).scalars + 1
                assert seq - 1 >= acked, "an acked record is gone"
                for count in range(60 + 25 * life):
                    wire.send(batch(seq, 2))
                    seq += 2
                    if count % 5 == 0 and count:
                        acked = max(acked, wire.until(f.Ack).upto)
                sent = max(sent, seq)
                process.send_signal(signal.SIGKILL)
        except ConnectionClosed:
            pass
        finally:
            process.kill()
            process.wait()
    store = SqlStore(tmp_path)
    records = [record for committed in replay(store, RUN) for record in committed.records]
    high = store.high_water(next(replay(store, RUN)).stream, "scalars")
    store.close()
    steps = [int.from_bytes(record.steps[:8], "little") // 4 for record in records]
    assert steps == list(range(high + 1)) and acked <= high < sent and acked > 50


def test_a_locked_database_stops_the_acks_and_nothing_else(start, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 200)
    server = start()
    other = sqlite3.connect(server.data_dir / sqlite.FILE_NAME, isolation_level=None)
    with Wire(server.url, server.token) as wire:
        declared(wire)
        wire.send(batch(0))
        wire.acked("scalars", 0)
        other.execute("BEGIN IMMEDIATE")
        wire.send(batch(1))
        assert isinstance(wire.receive(), f.Slow)  # temporary, and no ack
        wire.send(batch(2))
        assert len(server.get("/api/runs")["runs"]) == 1  # reading goes on
        assert server.http.post("/api/tokens", json={"role": "view"}).status_code == 503
        other.execute("ROLLBACK")
        wire.acked("scalars", 2)
    other.close()
    eventually(lambda: stored_steps(server) == list(range(12)))


def test_what_the_database_refuses_is_rejected_alone(server):
    other = sqlite3.connect(server.data_dir / sqlite.FILE_NAME)
    other.execute(
        "CREATE TRIGGER poison BEFORE INSERT ON journal WHEN NEW.first = 3 "
        "BEGIN SELECT RAISE(ABORT, 'poison'); END"
    )
    other.close()
    with Wire(server.url, server.token) as wire, Wire(server.url, server.token) as healthy:
        declared(wire)
        declared(healthy, run="cd" * 16)
        for first in range(6):
            wire.send(batch(first))
            healthy.send(batch(2 * first, 2))
        reject = wire.until(f.Reject)
        assert (reject.first, reject.last, reject.code) == (3, 3, "refused")
        wire.acked("scalars", 5)
        healthy.acked("scalars", 11)
    eventually(lambda: stored_steps(server) == [*range(12), *range(16, 24)])


def test_sigterm_commits_what_arrived_and_exits_0(tmp_path):
    process, url, token = serve(tmp_path)
    with Wire(url, token) as wire:
        declared(wire)
        wire.send(batch(0, 50))
        wire.acked("scalars", 49)
        os.kill(process.pid, signal.SIGTERM)
        assert closed_with(wire) == 1012
    assert process.wait(15) == 0
    store = SqlStore(tmp_path)
    assert len([r for c in replay(store, RUN) for r in c.records]) == 50
    store.close()
