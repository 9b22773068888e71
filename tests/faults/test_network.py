"""A bad network between a training and its server (F21 to F23 of the reliability reference): a
slow one, one that stops in the middle, one that cuts connections inside a frame. Nothing is lost,
doubled or reordered, and the training does not wait."""

from __future__ import annotations

import selectors
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.kit import TRAIN, environment
from sdk.served import Served

POINTS = 600
TRAINING = f"""
import pathlib
import nanwatch
from nanwatch.link import connection
connection.PING_INTERVAL_S, connection.PING_TIMEOUT_S, connection.RETRY_MOST_S = 0.5, 3.0, 1.0
healed = pathlib.Path(sys.argv[1])
run = nanwatch.init("faults", name="far away")
started = time.monotonic()
slowest = 0.0
for n in range({POINTS}):
    train(1)
    before = time.monotonic()
    run.log(v=float(n))
    slowest = max(slowest, time.monotonic() - before)
    time.sleep(max(0.0, started + n / 100 - time.monotonic()))
print("slowest", slowest)
while not healed.exists():
    time.sleep(0.05)
time.sleep(4)  # a connection that comes back needs a moment
"""


class Network:
    """A TCP proxy whose faults can be switched on and off."""

    def __init__(self) -> None:
        self.to = 0
        """Port of the server."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.delay_s = 0.0
        self.slice_bytes = 1 << 16
        self.frozen = False
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._over = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                continue
            self.connections += 1
            self._pairs.append((near, far))
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """Both ways, until one side ends. Only this thread closes the two: a number closed by
        another could be a new connection's by the time it is read here."""
        with near, far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while not self._over:
                if self.frozen:
                    time.sleep(0.05)
                    continue
                try:
                    for key, _ in ready.select(0.1):
                        data = key.fileobj.recv(self.slice_bytes)  # type: ignore[union-attr]
                        time.sleep(self.delay_s)
                        if not data:
                            return
                        key.data.sendall(data)
                except OSError:
                    return

    def cut(self) -> None:
        """Reset every connection, wherever it is in a frame."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    # Closing one that does not linger is a reset; its thread closes it.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # closed by the other side

    def close(self) -> None:
        """No more connections."""
        self._over = True
        self._listener.close()
        self.cut()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def served(network: Network, tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "data", "--allowed-host", f"127.0.0.1:{network.port}")
    network.to = int(server.url.rsplit(":", 1)[1])
    yield server
    server.stop()


def slow(network: Network) -> None:
    """Two tenths of a second for every piece."""
    network.delay_s = 0.2
    time.sleep(6)


def sliced(network: Network) -> None:
    """A few bytes at a time: no frame comes in one piece."""
    network.slice_bytes, network.delay_s = 7, 0.0005
    time.sleep(6)


def half_open(network: Network) -> None:
    """Nobody reads and nobody says so."""
    time.sleep(1)
    network.frozen = True
    time.sleep(6)


def flapping(network: Network) -> None:
    """Cut inside of frames, again and again."""
    network.slice_bytes, network.delay_s = 64, 0.001
    for _ in range(20):
        time.sleep(0.3)
        network.cut()


@pytest.mark.parametrize("fault", [slow, sliced, half_open, flapping])
def test_a_bad_network_loses_nothing(
    served: Served, network: Network, fault: Callable[[Network], None], tmp_path: Path
) -> None:
    healed = tmp_path / "healed"
    env = environment(
        tmp_path / "training",
        NANWATCH_URL=f"http://127.0.0.1:{network.port}",
        NANWATCH_TOKEN=served.token,
    )
    code = TRAIN + textwrap.dedent(TRAINING)
    training = subprocess.Popen(
        [sys.executable, "-c", code, str(healed)], env=env, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not network.connections and time.monotonic() < deadline:
        time.sleep(0.05)
    fault(network)
    network.delay_s, network.slice_bytes, network.frozen = 0.0, 1 << 16, False
    healed.touch()
    said, _ = training.communicate(timeout=120)
    assert training.returncode == 0
    assert float(said.split()[-1]) < 0.5, "logging waited for the network"
    (run,) = [one["id"] for one in served.client.get("/api/runs")["runs"]]
    deadline = time.monotonic() + 60
    while len(served.points(run, "v")) < POINTS and time.monotonic() < deadline:
        time.sleep(0.2)
    assert served.points(run, "v") == [float(n) for n in range(POINTS)]
    assert served.run(run)["beat"]["dropped"] == {}


def test_a_server_under_another_name_says_how_it_is_allowed(
    network: Network, tmp_path: Path
) -> None:
    """As through `ssh -L`: the port is not the server's own."""
    server = Served(tmp_path / "data")
    network.to = int(server.url.rsplit(":", 1)[1])
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRAIN + "import nanwatch; nanwatch.init('far'); train(20)"],
            env=environment(
                tmp_path / "training",
                NANWATCH_URL=f"http://127.0.0.1:{network.port}",
                NANWATCH_TOKEN=server.token,
            ),
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        server.stop()
    assert done.returncode == 0
    (line,) = [one for one in done.stderr.splitlines() if "refused" in one]
    assert "HTTP 403: expected Host to be one of" in line and "--allowed-host" in line
