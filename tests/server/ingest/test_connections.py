"""Connections that come at the same time, leave in the middle, or belong to several ranks."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import struct
import time

import pytest

from nanwatch.contract import frames as f
from nanwatch.contract.commands import ControlOffer
from nanwatch_server.ingest.intake import Intake, Job
from nanwatch_server.store import sql
from nanwatch_server.store.base import StoreUnavailableError
from nanwatch_server.store.sql import SqlStore
from tests.server.ingest.test_first_light import eventually
from tests.server.wire import RUN, Wire, hello


@contextlib.contextmanager
def commits_wait(server):
    """Another program holds the database; at the end, what came meanwhile is one commit."""
    lock = sqlite3.connect(server.data_dir / sql.FILE_NAME, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with Wire(server.url, server.token) as first:
        first.send(hello(run="ee" * 16))  # the writer is busy with this one
        time.sleep(0.2)
        try:
            yield
        finally:
            lock.execute("ROLLBACK")
            lock.close()


def test_a_second_rank_in_the_same_commit_leaves_the_runs_control_alone(server):
    offer = ControlOffer(lr=(1e-6, 1e-2), checkpoint=True)
    with Wire(server.url, server.token) as lead, Wire(server.url, server.token) as other:
        with commits_wait(server):
            lead.send(hello(control=offer, world=2))
            time.sleep(0.1)
            other.send(hello(rank=1, epoch=2, world=2))
            time.sleep(0.1)
        assert isinstance(lead.receive(), f.Welcome) and isinstance(other.receive(), f.Welcome)
        run = server.get(f"/api/runs/{RUN}")
        assert run["controls"] == ["set_lr", "scale_lr", "checkpoint"]


def test_two_projects_at_once_do_not_share_a_run(server):
    with Wire(server.url, server.token) as mine, Wire(server.url, server.token) as yours:
        with commits_wait(server):
            mine.send(hello(project="mine", name="mine"))
            time.sleep(0.1)
            yours.send(hello(project="yours", name="yours", epoch=2))
            time.sleep(0.1)
        assert isinstance(mine.receive(), f.Welcome)
        with contextlib.suppress(Exception):
            yours.receive()
        run = server.get(f"/api/runs/{RUN}")
        assert (run["project"], run["name"]) == ("mine", "mine")


def test_a_client_that_leaves_before_its_welcome_is_not_connected(server):
    wire = Wire(server.url, server.token)
    with commits_wait(server):
        wire.send(hello())
        time.sleep(0.05)
        reset = struct.pack("ii", 1, 0)
        wire.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        wire.socket.socket.close()
    # A run whose only connection has gone is lost after a while; one held open never would be.
    eventually(lambda: server.get("/api/runs")["runs"])
    eventually(lambda: server.parts.presence.of(RUN).connections == 0)
    assert server.parts.gateway._open == set()


def test_a_flood_of_heartbeats_is_one_job_at_a_time(server):
    with Wire(server.url, server.token) as wire, Wire(server.url, server.token) as other:
        wire.hello()
        other.hello(run="cd" * 16)
        with commits_wait(server):
            for step in range(3000):
                wire.send(f.Beat(step=step, wall=1.0))
            eventually(lambda: server.parts.presence.of(RUN).last_step == 2999)
            assert server.parts.intake.depth < 20
        wire.send(f.Beat(step=5000, wall=1.0))
        eventually(lambda: server.parts.store.run(RUN).last_step == 5000)


def test_a_refused_submission_is_told_only_once_it_is_written_down(store):
    told, full = [], [True]

    def bury(uow):
        if full.pop():
            full.append(False)
            raise StoreUnavailableError("no room")

    intake = Intake(store)
    refused = Job(
        write=lambda uow: 1 / 0,
        done=lambda result: told.append("done"),
        failed=lambda error: told.append(("failed", list(full))),
        bury=bury,
        wait=lambda: told.append("wait"),
    )
    after = Job(lambda uow: None, lambda result: told.append("after"), lambda error: None)
    intake.submit(refused)
    intake.submit(after)
    intake.start()
    eventually(lambda: "after" in told)
    intake.close()
    assert told == ["wait", ("failed", []), "after"]


def test_a_damaged_database_refuses_no_record(data_dir):
    """What cannot be stored now stays with the client: an ack of it would be a lie."""
    file = data_dir / sql.FILE_NAME
    database = sqlite3.connect(file)
    [page] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    [size] = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with open(file, "r+b") as pages:
        pages.seek((page - 1) * size)
        pages.write(b"\xff" * size)
    store = SqlStore(data_dir)
    with pytest.raises(StoreUnavailableError, match="malformed"), store.write() as uow:
        uow.upsert_run(hello().run, None, 1.0)
    store.close()
