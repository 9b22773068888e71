"""The guest in the user's process: cheap to import, silent when alone, harmless in every fault.

Each case is a real Python process, because exits, forks and imports cannot be judged from inside.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanwatch.guard import GUARD, Guard, guarded

TRAIN = """
import hashlib, os, sys
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
if os.environ.get("WATCH"):
    import nanwatch
    run = nanwatch.init("safety", control=nanwatch.Control(lr=(1e-9, 1), stop=True))
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
for n in range(200):
    optimizer.zero_grad()
    loss = (model(torch.randn(32, 8)) ** 2).mean()
    loss.backward()
    if n % 2:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    if os.environ.get("WATCH"):
        run.log(q=loss.detach().reshape(1, 1), anything=n)
weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
print(hashlib.sha256(weights).hexdigest())
"""


def run_python(
    code: str, tmp_path: Path, *, timeout_s: float = 60, **env: str
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(code)],
        env={
            **clean,
            "NANWATCH_DATA_DIR": str(tmp_path / "data"),
            "NANWATCH_AUTOSTART": "0",
            **env,
        },
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that accepts connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []
    listener.settimeout(0.2)
    done = threading.Event()

    def accept() -> None:
        while not done.is_set():
            try:
                accepted.append(listener.accept()[0])
            except TimeoutError:
                continue

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    done.set()
    thread.join()
    for connection in accepted:
        connection.close()
    listener.close()


def test_import_loads_neither_torch_nor_numpy_nor_the_server(tmp_path: Path) -> None:
    done = run_python(
        """
        import sys
        import nanwatch
        heavy = {"torch", "numpy", "msgspec", "websockets", "fastapi", "sqlalchemy", "typer"}
        loaded = heavy & set(sys.modules)
        assert not loaded, loaded
        nanwatch.init, nanwatch.Control, nanwatch.StopTraining
        loaded = (heavy - {"msgspec"}) & set(sys.modules)
        assert not loaded, loaded
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_same_weights_bit_for_bit_without_a_server(tmp_path: Path) -> None:
    bare = run_python(TRAIN, tmp_path)
    alone = run_python(TRAIN, tmp_path, WATCH="1")
    refused = run_python(TRAIN, tmp_path, WATCH="1", NANWATCH_URL="http://127.0.0.1:9")
    assert bare.returncode == alone.returncode == refused.returncode == 0, refused.stderr
    assert bare.stdout == alone.stdout == refused.stdout
    assert "Traceback" not in alone.stderr + refused.stderr
    assert refused.stderr.count("no server at") == 1


def test_exit_with_a_dead_server_adds_at_most_two_seconds(tmp_path: Path, black_hole: str) -> None:
    code = """
    import time, nanwatch
    run = nanwatch.init("exit")
    run.log(loss=1.0)
    time.sleep(0.3)
    started = time.monotonic()
    run.finish()
    print(time.monotonic() - started)
    """
    for server in ("http://127.0.0.1:9", black_hole):
        done = run_python(code, tmp_path, NANWATCH_URL=server, NANWATCH_TOKEN="x")
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) <= 2.3
        assert "Traceback" not in done.stderr


def test_script_that_just_ends_or_fails_keeps_its_exit_code(tmp_path: Path) -> None:
    for ending, code in (("", 0), ("raise SystemExit(7)", 7), ("1 / 0", 1), ("os._exit(5)", 5)):
        done = run_python(
            f"import os, nanwatch\nnanwatch.init('x').log(loss=1.0)\n{ending}\n",
            tmp_path,
            NANWATCH_URL="http://127.0.0.1:9",
        )
        assert done.returncode == code, done.stderr
        assert ("ZeroDivisionError" in done.stderr) == (code == 1)


def test_only_daemon_threads_of_ours_run(tmp_path: Path) -> None:
    done = run_python(
        """
        import threading, nanwatch
        nanwatch.init("threads")
        others = [t for t in threading.enumerate() if t is not threading.main_thread()]
        assert others and all(t.daemon for t in others), others
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_forked_children_do_not_hang_and_send_nothing(tmp_path: Path) -> None:
    done = run_python(
        """
        import os, torch, nanwatch
        from torch.utils.data import DataLoader
        run = nanwatch.init("fork")
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for epoch in range(3):
            for batch in DataLoader(torch.randn(64, 4), batch_size=8, num_workers=2):
                optimizer.zero_grad()
                model(batch).mean().backward()
                optimizer.step()
        pid = os.fork()
        if pid == 0:
            for _ in range(2):
                optimizer.zero_grad()
                model(batch).mean().backward()
                optimizer.step()
            run.log(loss=1.0)
            run.finish()
            os._exit(0 if run.observer.clock.step == 24 else 3)
        assert os.waitpid(pid, 0)[1] == 0
        assert run.observer.clock.step == 24
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("trains and is not watched: it was forked") == 1


def test_anything_may_be_logged(tmp_path: Path) -> None:
    done = run_python(
        """
        import decimal, fractions, torch, nanwatch
        run = nanwatch.init("anything")
        class Angry:
            def __float__(self): raise ValueError("no")
            def __repr__(self): raise ValueError("no")
            def __getattr__(self, name): raise RuntimeError("no")
        loop = {}; loop["loop"] = loop
        for value in (None, Angry(), "x" * 10**6, loop, [1], decimal.Decimal("1.5"), True, 1e-320,
                      fractions.Fraction(1, 3), torch.tensor([]), torch.tensor(1j), object(),
                      torch.zeros(2, 2, dtype=torch.bfloat16), torch.tensor([True, False]),
                      -0.0, float("nan"), float("inf"), 10**400, torch.nn.Linear(1, 1)):
            run.log(value=value)
            run.log({"a b": value, "": value})
            run.log({3: value})
        run.log(None)
        run.watch(3, x=None)
        run.mark("nonsense", object=Angry)
        run.resume("x")
        run.finish()
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Traceback") == 0


def test_full_disk_costs_telemetry_not_the_training(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "spool").write_text("a file where the directory should be")
    bare = run_python(TRAIN, tmp_path)
    watched = run_python(TRAIN, tmp_path, WATCH="1", NANWATCH_URL="http://127.0.0.1:9")
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout == bare.stdout and "Traceback" not in watched.stderr


def test_off_means_off(tmp_path: Path) -> None:
    started = time.monotonic()
    done = run_python(
        """
        import threading, nanwatch
        run = nanwatch.init("off", mode="off")
        run.log(loss=1.0); run.watch(); run.finish(); nanwatch.log(loss=2.0)
        assert threading.active_count() == 1
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "data").exists()
    assert time.monotonic() - started < 30


def test_a_logger_of_the_user_that_fails_is_not_our_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the user's")

    monkeypatch.setattr(Guard, "reraise", False)
    logger = logging.getLogger("nanwatch")
    logger.addFilter(fails)
    try:
        assert guarded("test", lambda: 1 / 0) is None
    finally:
        logger.removeFilter(fails)
        GUARD.clear()
