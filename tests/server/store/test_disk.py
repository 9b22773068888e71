"""A disk that is full, and one that fails under a commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from nanwatch.contract import frames as f
from nanwatch_server.app import EXIT_DISK_FAILED
from nanwatch_server.store import ballast
from nanwatch_server.store.base import StoreUnavailableError
from nanwatch_server.store.sql import SqlStore
from tests.server.wire import RUN, Wire, table

SMALL = 64 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def audit(store, action, *, bulk=False, size=0):
    with store.write(bulk=bulk) as uow:
        detail = {"text": "x" * size}
        uow.audit(at=1.0, actor="a", role="r", via="v", action=action, detail=detail)


def test_a_full_disk_leaves_room_for_small_things(small_disk):
    store = SqlStore(small_disk / "data")
    reserve = small_disk / "data" / ballast.FILE_NAME
    assert reserve.stat().st_blocks * 512 >= ballast.BYTES
    audit(store, "before", bulk=True)
    hog = small_disk / "hog"
    with hog.open("wb") as file, pytest.raises(OSError):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    with pytest.raises(StoreUnavailableError):
        for _ in range(1_000):
            audit(store, "large", bulk=True, size=1 << 20)
    assert not reserve.exists()
    known = len(store.audit_rows(limit=5_000))
    for _ in range(20):
        audit(store, "stop")
    with pytest.raises(StoreUnavailableError, match="waiting for room"):
        audit(store, "large", bulk=True)
    assert len(store.audit_rows(limit=5_000)) == known + 20
    hog.unlink()
    audit(store, "after", bulk=True)
    assert reserve.exists()
    assert store.audit_break() is None
    store.close()


@pytest.mark.parametrize("when", [1, 3, 7])
def test_a_sync_that_fails_ends_the_server_and_loses_nothing_acked(data_dir, tmp_path, when):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    ready = tmp_path / "ready.json"
    words = ["serve", "--port", "0", "--no-open", "--ready-file", str(ready)]
    server = subprocess.Popen(
        [sys.executable, "-m", "nanwatch", *words, "--data-dir", str(data_dir)],
        stderr=subprocess.PIPE,
    )
    strace = None
    try:
        until = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < until:
            time.sleep(0.05)
        url = json.loads(ready.read_text())["url"]
        token = json.loads((data_dir / "server.json").read_text())["ingest_token"]
        with Wire(url, token) as wire:
            wire.hello()
            wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
            wire.send(f.Batch(lane="scalars", first=0, records=[table([1], [0], [[0.0]])]))
            wire.acked("scalars", 0)
            fault = f"inject=fsync,fdatasync:error=EIO:when={when}+"
            strace = subprocess.Popen(
                ["strace", "-f", "-e", fault, "-o", os.devnull, "-p", str(server.pid)],
                stderr=subprocess.PIPE,
                text=True,
            )
            assert strace.stderr is not None
            if "attached" not in strace.stderr.readline():
                pytest.skip("strace may not attach to a process here")
            acked, seq = 0, 1
            try:
                while True:
                    record = table([1], [seq], [[float(seq)]])
                    wire.send(f.Batch(lane="scalars", first=seq, records=[record]))
                    wire.acked("scalars", seq)
                    acked, seq = seq, seq + 1
            except Exception:  # the connection is gone with the server
                pass
        _, said = server.communicate(timeout=20)
        assert server.returncode == EXIT_DISK_FAILED
        assert b"the disk failed under the database" in said
    finally:
        if strace is not None:
            strace.kill()
            strace.wait()
        server.kill()
        server.wait()
    store = SqlStore(data_dir)
    try:
        rows = store.journal(RUN, limit=10_000)
        stored = rows[-1].last
        assert acked <= stored <= acked + 1
        assert [row.first for row in rows] == list(range(stored + 1))
    finally:
        store.close()
