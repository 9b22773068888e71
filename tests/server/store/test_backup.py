"""Backups made beside a server that writes, put back, and refused when they are not whole."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from nanwatch.contract import frames as f
from nanwatch_server.store import removal
from nanwatch_server.store.backup import (
    backups,
    make_backup,
    prune,
    restore,
    verify_backup,
)
from nanwatch_server.store.base import StoreBusyError, StoreError
from nanwatch_server.store.nightly import Backups
from nanwatch_server.store.sql import FILE_NAME, SqlStore
from nanwatch_server.store.verify import verify_directory
from tests.server.wire import RUN, Wire, table


def cli(data_dir, *words):
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", *words],
        env={**os.environ, "NANWATCH_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def send(server, count, begin=0):
    with Wire(server.url, server.token) as wire:
        wire.hello()
        wire.send(f.Declare(series=[f.SeriesDecl(1, "loss")]))
        for seq in range(begin, begin + count):
            wire.send(
                f.Batch(lane="scalars", first=seq, records=[table([1], [seq], [[seq * 0.1]])])
            )
        wire.acked("scalars", begin + count - 1)


def test_a_backup_beside_a_running_server_is_put_back(server, data_dir, tmp_path):
    send(server, 50)
    made = cli(data_dir, "db", "backup", str(tmp_path / "b"))
    assert made.returncode == 0, made.stderr
    (path,) = backups(tmp_path / "b")
    assert made.stdout.strip() == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    send(server, 10, 50)
    with pytest.raises(StoreBusyError):
        restore(path, data_dir, time.time())
    checked = cli(data_dir, "db", "verify")
    assert checked.returncode == 0 and "60 points" in checked.stderr
    server.stop()
    back = cli(data_dir, "db", "restore", str(path))
    assert back.returncode == 0, back.stderr
    store = SqlStore(data_dir)
    try:
        assert store.journal_end(RUN) == 50
        assert store.audit_break() is None
    finally:
        store.close()
    assert len(list(data_dir.glob(f"before-restore-*/{FILE_NAME}"))) == 1
    assert verify_directory(data_dir).points == 50


def test_what_is_not_whole_is_no_backup(data_dir, tmp_path):
    path = make_backup(data_dir, tmp_path, 1e9)
    verify_backup(path)
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * 100)
    with pytest.raises(StoreError, match="SHA-256"):
        restore(path, data_dir, 1.0)
    path.with_name(path.name + ".sha256").unlink()
    with pytest.raises(StoreError):
        verify_backup(path)
    with pytest.raises(StoreError, match="found no"):
        make_backup(tmp_path, tmp_path, 1.0)


def test_a_broken_audit_chain_is_told(data_dir, tmp_path):
    store = SqlStore(data_dir)
    with store.write() as uow:
        uow.audit(at=1.0, actor="a", role="admin", via="token", action="x")
    store.close()
    with sqlite3.connect(data_dir / FILE_NAME) as db:
        db.execute("UPDATE audit SET actor = 'b'")
    db.close()
    with pytest.raises(StoreError, match="audit chain is broken at row 1"):
        make_backup(data_dir, tmp_path / "b", 1.0)
    assert list((tmp_path / "b").iterdir()) == []


def test_no_backup_where_there_is_no_room(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("nanwatch_server.store.backup.SPARE_BYTES", 1 << 60)
    with pytest.raises(StoreError, match="not enough room"):
        make_backup(data_dir, tmp_path / "b", 1.0)


def test_by_night_and_only_so_many(data_dir, tmp_path):
    night = time.mktime((2026, 5, 10, 3, 0, 0, 0, 0, -1))
    tmp_path = tmp_path / "backups"
    rule = Backups(tmp_path, hour=3, keep=2)
    assert not rule.due(night, night - 60)  # just started
    assert rule.due(night - 60, night - 3600)  # there is none at all
    for day in range(4):
        path = make_backup(data_dir, tmp_path, night + day * 86_400)
        os.utime(path, (night + day * 86_400,) * 2)
    last = night + 3 * 86_400
    assert not rule.due(last + 3600, night)
    assert not rule.due(last + 86_400 - 60, night)
    assert rule.due(last + 86_400 + 60, night)
    assert len(prune(tmp_path, 2)) == 2
    assert len(backups(tmp_path)) == 2 and len(list(tmp_path.iterdir())) == 4
    assert not Backups(tmp_path / "none", keep=0).due(last, night)


def test_a_run_is_deleted_over_the_api(server, data_dir):
    send(server, 20)
    path = f"/api/runs/{RUN}"
    with Wire(server.url, server.token) as wire:
        wire.hello(epoch=1)
        assert server.http.delete(path).status_code == 409  # it is live
        assert server.http.delete(path, params={"force": True}).status_code == 200
        with pytest.raises(Exception, match="deleted"):
            wire.until(f.Go)
    with Wire(server.url, server.token) as wire, pytest.raises(Exception, match="deleted"):
        wire.hello(epoch=1)
    assert server.http.get(path).status_code == 404
    until = time.monotonic() + 20
    while removal.unfinished(server.parts.store) and time.monotonic() < until:
        time.sleep(0.02)
    assert removal.size_of(server.parts.store, RUN) == {}
    assert server.get("/api/audit")["rows"][0]["action"] == "run.delete"


def test_pins_retention_and_deletion_by_the_command_line(server, data_dir):
    send(server, 20)
    listed = cli(data_dir, "runs", "list")
    assert RUN in listed.stdout, listed.stderr
    assert cli(data_dir, "runs", "pin", RUN).returncode == 0
    assert server.get(f"/api/runs/{RUN}/names", q="LOSS")["series"][0]["kind"] == "loss"
    refused = cli(data_dir, "db", "retention", "p", "30")
    assert refused.returncode == 1 and "in use" in refused.stderr
    deleted = cli(data_dir, "runs", "delete", RUN, "--yes", "--force")
    assert deleted.returncode == 0, deleted.stderr
    assert cli(data_dir, "runs", "delete", RUN, "--yes").returncode == 1
    server.stop()
    ruled = cli(data_dir, "db", "retention", "p", "30")
    assert "30 days" in ruled.stderr, ruled.stderr
    assert cli(data_dir, "db", "vacuum").returncode == 0
