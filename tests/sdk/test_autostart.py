"""A run without a server starts one for all runs of its user, and never in the training's way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from nanwatch import local_server
from nanwatch.config import resolve
from nanwatch.contract.limits import INGEST_PATH, PROTOCOL
from nanwatch.link.lock import is_running

RUN = """
import sys, time
import torch
import nanwatch
nanwatch.Run  # its modules: not what is timed
started = time.monotonic()
run = nanwatch.init("auto", name=sys.argv[1])
print("init", time.monotonic() - started, flush=True)
deadline = time.monotonic() + 90
while not run.url and time.monotonic() < deadline:
    run.log(v=1.0)
    time.sleep(0.05)
print("url", run.url, flush=True)
run.finish()
"""


def eventually(look: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return {**clean, "NANWATCH_DATA_DIR": str(data_dir), **more}


def begin(data_dir: Path, name: str, code: str = RUN, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), name],
        env=environment(data_dir, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cli(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", *arguments],
        env=environment(data_dir),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "own"
    if local_server.alive(tmp_path / "own") is not None:
        assert cli(tmp_path / "own", "serve", "--stop").returncode == 0


def test_three_runs_at_once_share_one_server_that_outlives_them(data_dir: Path) -> None:
    data_dir.mkdir()
    dead = json.dumps({"url": "http://127.0.0.1:9", "ingest_token": "old", "pid": 2**22 - 1})
    (data_dir / "server.json").write_text(dead)  # left by a server that is gone
    running = [begin(data_dir, f"r{number}") for number in range(3)]
    told = [process.communicate(timeout=120) for process in running]
    found = local_server.alive(data_dir)
    assert found is not None, "the server goes on without its runs"
    for out, err in told:
        assert float(out.split()[1]) < 5.0, "init does not wait for a server"
        assert f"url {found.url}/r/" in out, (out, err)
    assert sum("login#code=" in err for _, err in told) == 1, told
    assert not list(data_dir.glob("spool/*")), "everything is stored"
    again = begin(data_dir, "later")
    out, err = again.communicate(timeout=120)
    assert f"url {found.url}/r/" in out and "login#code" not in err
    assert cli(data_dir, "serve", "--detach").returncode == 0
    assert local_server.alive(data_dir) == found
    stopped = cli(data_dir, "serve", "--stop")
    assert stopped.returncode == 0 and not is_running(found.pid)
    assert cli(data_dir, "serve", "--stop").returncode == 1


def test_without_the_extra_the_run_keeps_its_data_and_says_how(data_dir: Path) -> None:
    code = """
    import sys, time
    sys.modules["fastapi"] = None  # as if it were not installed
    import nanwatch
    run = nanwatch.init("alone", name=sys.argv[1])
    for _ in range(20):
        run.log(v=1.0)
        time.sleep(0.02)
    run.finish()
    """
    process = begin(data_dir, "r", code)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err.count("pip install 'nanwatch[server]'") == 1, err
    assert list(data_dir.glob("spool/*/scalars-*.seg")) and not (data_dir / "server.log").exists()


def test_a_server_that_cannot_start_is_told_once(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "nanwatch.sqlite").write_text("no database at all" * 1000)
    code = """
    import os, pathlib, sys, time
    import nanwatch
    run = nanwatch.init("auto", name=sys.argv[1])
    data, deadline = pathlib.Path(os.environ["NANWATCH_DATA_DIR"]), time.monotonic() + 60
    while time.monotonic() < deadline:
        if (data / "server.log").exists() and not (data / "starting.lock").exists():
            break  # whoever tried to start one has given up
        time.sleep(0.05)
    time.sleep(1.5)
    print("url", run.url, flush=True)
    run.finish()
    """
    process = begin(data_dir, "r", code)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0 and "url \n" in out
    assert (
        err.count("a server could not be started") == 1 and "Traceback" not in err.split("see")[0]
    )


@pytest.mark.parametrize(
    ("env", "may"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        ({"NANWATCH_AUTOSTART": "0"}, False),
        ({"RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"NANWATCH_MODE": "offline"}, False),
        ({"NANWATCH_URL": "http://127.0.0.1:9"}, False),
    ],
)
def test_who_may_start_one(env: dict[str, str], may: bool, monkeypatch: Any) -> None:
    monkeypatch.delenv("NANWATCH_AUTOSTART", raising=False)
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    none: dict[str, Any] = dict.fromkeys(
        ("project", "name", "config", "control", "server", "token", "mode")
    )
    assert resolve(**none, run_id="ab" * 16).autostart is may


def test_a_server_of_another_machine_is_not_taken_for_ours(tmp_path: Path) -> None:
    told = {"url": "http://127.0.0.1:9", "ingest_token": "t", "pid": os.getpid(), "host": "far"}
    (tmp_path / "server.json").write_text(json.dumps(told))
    found = local_server.read(tmp_path)
    assert found is not None and not found.here and local_server.alive(tmp_path) is None
    done = cli(tmp_path, "serve", "--stop")
    assert done.returncode == 1 and "stop it there" in " ".join(done.stderr.split())


def test_an_idle_server_ends_and_a_used_one_does_not(data_dir: Path) -> None:
    arguments = ["serve", "--no-open", "--port", "0", "--idle-hours", str(2 / 3600)]
    server = subprocess.Popen(
        [sys.executable, "-m", "nanwatch", *arguments, "--data-dir", str(data_dir)],
        env=environment(data_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = eventually(lambda: local_server.alive(data_dir), 30)
    with connect(
        found.url.replace("http", "ws", 1) + INGEST_PATH,
        subprotocols=[PROTOCOL],  # type: ignore[list-item]
        additional_headers={"Authorization": f"Bearer {found.token}"},
    ) as socket:
        until = time.monotonic() + 4
        while time.monotonic() < until:  # its handshake times out after 5 s
            assert server.poll() is None and socket.close_code is None
            time.sleep(0.1)
    assert server.wait(30) == 0


def test_a_server_detached_from_a_relative_directory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    where = ("--data-dir", "a [/b] c")
    started = cli(tmp_path / "unused", "serve", "--detach", "--port", "0", *where)
    try:
        found = local_server.alive(tmp_path / "a [/b] c")
        assert started.returncode == 0 and found is not None, started.stderr
        assert found.url in started.stderr
    finally:
        assert cli(tmp_path / "unused", "serve", "--stop", *where).returncode == 0


@pytest.mark.parametrize("pid", [os.getpid(), 10**30, -1], ids=["ours", "huge", "none"])
def test_what_answers_at_the_old_port_may_be_no_web_server(data_dir: Path, pid: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        data_dir.mkdir()
        told = {"url": url, "ingest_token": "t", "pid": pid, "host": socket.gethostname()}
        (data_dir / "server.json").write_text(json.dumps(told))
        assert local_server.alive(data_dir) is None
        stopped = cli(data_dir, "serve", "--stop")
        assert stopped.returncode == 1 and "no server runs" in stopped.stderr
        env = {"--server": url, "--token": "x"}
        options = [part for pair in env.items() for part in pair]
        looked = cli(data_dir, "doctor", *options)
        assert looked.returncode == 1 and "does not answer" in looked.stderr
        sent = cli(data_dir, "send", "--run", "r", "--step", "1", "loss=1", *options)
        assert sent.returncode == 1 and "no nanwatch server: BadStatusLine" in sent.stderr
