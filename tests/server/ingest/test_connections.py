"""Connections that come at the same time, leave in the middle, or belong to several ranks."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import struct
import time

from nanwatch.contract import frames as f
from nanwatch.contract.commands import ControlOffer
from nanwatch_server.store import sql
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
