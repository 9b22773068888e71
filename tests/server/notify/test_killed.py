"""kill -9 of a real server process: what was committed is told, and a repetition can be known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from nanwatch.cli.local_server import Browser, LocalServer
from tests.server.ingest.test_first_light import eventually
from tests.server.notify.kit import free_port, receiver
from tests.server.notify.test_api import explode

PATIENCE_S = 90.0


class Server(LocalServer):
    """A `nanwatch serve` process with the local targets allowed."""

    def __init__(self, data_dir, port=0):
        super().__init__(data_dir, port)
        self.port = int(self.url.rsplit(":", 1)[1])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def browser(self):
        return Browser(self.url, self.login_url)


@pytest.fixture
def serve(data_dir, monkeypatch):
    monkeypatch.setenv("NANWATCH_ALLOW_LOCAL_WEBHOOKS", "1")
    started = []

    def begin(port=0):
        started.append(Server(data_dir, port))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


def children(pid):
    """Couriers of a server process."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(one) for one in listed.stdout.split()]


def test_between_commit_and_delivery_nothing_is_lost(serve):
    """Nobody listens while the incident is committed; the server dies; the next one tells."""
    port = free_port()
    server = serve()
    client = server.browser()
    url = f"http://127.0.0.1:{port}/x"
    client.post("/api/notifications/channels", {"name": "hook", "url": url})
    explode(server)
    path = "/api/notifications/deliveries"
    eventually(lambda: client.get(path)["deliveries"], PATIENCE_S)
    server.kill()
    with receiver(port) as hook:
        server = serve(server.port)
        eventually(lambda: hook.got, PATIENCE_S)
        client = server.browser()
        eventually(
            lambda: {one["state"] for one in client.get(path)["deliveries"]} <= {"sent", "merged"},
            PATIENCE_S,
        )
        assert len(hook.got) == len({one.id for one in hook.got})


def test_between_sending_and_writing_it_down_it_is_sent_again_with_the_same_id(serve):
    """The receiver has it, the server dies before it hears so: twice, and known to be one."""
    with receiver() as hook:
        server = serve()
        server.browser().post("/api/notifications/channels", {"name": "hook", "url": hook.url})
        hook.hold.clear()
        explode(server)
        eventually(lambda: hook.got, PATIENCE_S)
        couriers = children(server.process.pid)
        assert couriers
        server.kill()
        hook.hold.set()
        eventually(lambda: not any(alive(pid) for pid in couriers), PATIENCE_S)
        server = serve(server.port)
        eventually(lambda: len(hook.got) >= 2, PATIENCE_S)
        client = server.browser()
        eventually(
            lambda: (
                {one["state"] for one in client.get("/api/notifications/deliveries")["deliveries"]}
                <= {"sent", "merged"}
            ),
            PATIENCE_S,
        )
        time.sleep(1.0)
        assert [one.id for one in hook.got] == [hook.got[0].id] * 2


def alive(pid):
    """False for a process that has ended, and for one that only waits to be buried."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
