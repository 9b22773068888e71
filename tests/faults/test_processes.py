"""F10 to F17: forks, ends, signals and limits of a process. The training goes on as if alone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.faults.kit import TRAIN, environment, logged, python

BARE: dict[str, str] = {}


def bare(tmp_path: Path) -> str:
    """Weights after 100 steps without us."""
    if not BARE:
        BARE["weights"] = python("train(100); print(weights())", tmp_path).stdout
    return BARE["weights"]


# --- F11, F12: children --------------------------------------------------------------------------


def test_forks_while_a_thread_holds_each_lock_of_ours(tmp_path: Path) -> None:
    done = python(
        """
        import threading
        import nanwatch
        from nanwatch.guard import GUARD
        from nanwatch.guards.tally import TALLY
        from nanwatch.probes.tensors import CAPTURE
        from torch.utils.data import DataLoader
        run = nanwatch.init("locks", mode="offline")
        train(3)
        locks = [GUARD._lock, run.recorder._count_lock, run.inbox._lock, CAPTURE.lock, TALLY._lock]
        for lock in locks:
            held, let_go = threading.Event(), threading.Event()
            def hold(lock=lock, held=held, let_go=let_go):
                with lock:
                    held.set()
                    let_go.wait(30)
            holder = threading.Thread(target=hold, daemon=True)
            holder.start()
            held.wait()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    train(3)
                    run.log(v=1.0)
                    GUARD.note("child", ValueError("x"))
                    run.recorder.put(None) if run.observer.enabled else None
                    run.finish()
                    own = nanwatch.init("child", mode="offline")
                    own.log(v=2.0)
                    own.finish()
                    code = 0 if own.id and own.id != run.id else 2
                finally:
                    os._exit(code)
            let_go.set()
            deadline = time.monotonic() + 30
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < deadline, f"a child hangs on {lock}"
                time.sleep(0.02)
            assert ended[1] == 0, ended
            for batch in DataLoader(torch.randn(16, 4), batch_size=8, num_workers=2):
                train(1)
        run.finish()
        print(run.observer.clock.step)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "13\n", "what the children trained is theirs"
    assert len(list(tmp_path.glob("spool/*"))) == 6


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_other_kinds_are_runs_of_their_own(tmp_path: Path, method: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        TRAIN
        + textwrap.dedent(f"""
        import multiprocessing, nanwatch
        def child():
            run = nanwatch.init("child", mode="offline")
            train(3)
            run.finish()
        if __name__ == "__main__":
            run = nanwatch.init("parent", mode="offline")
            train(3)
            process = multiprocessing.get_context("{method}").Process(target=child)
            process.start()
            process.join()
            assert process.exitcode == 0
            train(3)
            run.finish()
            assert run.observer.clock.step == 6
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len({path.name for path in tmp_path.glob("spool/*")}) == 2


# --- F13, F14: ends and signals ------------------------------------------------------------------


def test_sigterm_leaves_what_was_logged_on_the_disk(tmp_path: Path) -> None:
    code = """
    import nanwatch
    run = nanwatch.init("term", server="http://127.0.0.1:9", token="x")
    for number in range(200):
        run.log(v=float(number))
        time.sleep(0.002)
    time.sleep(1.0)
    print("ready", flush=True)
    time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN + textwrap.dedent(code)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
    assert logged(tmp_path) == [float(number) for number in range(200)]


def test_signals_hooks_and_handlers_stay_the_users(tmp_path: Path) -> None:
    done = python(
        """
        import faulthandler, gc, signal, threading, weakref
        import nanwatch
        calls = []
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: calls.append(number))
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR2)
        def state():
            valid = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
            return [signal.getsignal(s) for s in valid], faulthandler.is_enabled()
        before, hook = state(), sys.excepthook
        threads, runs = threading.active_count(), []
        for cell in range(20):  # a notebook whose cell is run again and again
            exec("run = nanwatch.init('cell', mode='offline'); train(2); run.log(v=1.0)")
            runs.append(weakref.ref(run))
        assert state() == before
        assert threading.active_count() <= threads + 1, threading.enumerate()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert calls == [signal.SIGTERM, signal.SIGUSR1]
        run.finish()
        assert sys.excepthook is hook and threading.active_count() == threads
        gc.collect()
        assert sum(one() is not None for one in runs) <= 1, "neither atexit nor torch holds them"
        print(weights())
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("spool/*/end.json"))) == 20, "each init ended the one before"


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("import threading; t = threading.Thread(target=sys.exit); t.start(); t.join()", 0, ""),
        ("import threading; t = threading.Thread(target=lambda: 1/0); t.start(); t.join()", 0, "Z"),
        ("def main():\n    return\nmain()", 0, ""),
        ("run.finish(); raise ValueError('after')", 1, "ValueError: after"),
        ("sys.excepthook = lambda *_: print('mine', file=sys.stderr)\n1/0", 1, "mine"),
    ],
)
def test_ends_keep_their_code_and_words(tmp_path: Path, ending: str, code: int, said: str) -> None:
    begin = 'import nanwatch\nrun = nanwatch.init("end", mode="offline")\nrun.log(v=1.0)\n'
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{begin}{ending}\n"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code and said in done.stderr, done.stderr
    assert "nanwatch/" not in done.stderr and logged(tmp_path) == [1.0]


# --- F10, F17: no room ---------------------------------------------------------------------------


WATCHED = """
import nanwatch, warnings
{limit}
run = nanwatch.init("limits", server="http://127.0.0.1:9", token="x")
for _ in range(20):
    train(5)
    time.sleep(0.02)
{after}
run.finish()
print(weights())
"""


@pytest.mark.parametrize(
    "limit",
    [
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) - 1,) * 2)",
        "resource.setrlimit(resource.RLIMIT_AS, (vm() + (1 << 20),) * 2)",
    ],
    ids=["disk full", "no file descriptor", "no memory for a thread"],
)
def test_limits_cost_telemetry_not_the_training(tmp_path: Path, limit: str) -> None:
    head = """
    import resource
    import torch.utils.data, torch.optim.lr_scheduler, websockets.sync.client, gc
    import nanwatch.run
    train(0)
    def vm():
        return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    """
    code = textwrap.dedent(head) + WATCHED.format(limit=limit, after="")
    wanted = bare(tmp_path)
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, wanted), done.stderr
    assert "/nanwatch/" not in done.stderr, "torch may complain, we do in one line"
    warned = [line for line in done.stderr.splitlines() if "internal error" in line]
    assert len(warned) <= 2, done.stderr


def private_mounts() -> tuple[str, ...] | None:
    """A command that gives a process mounts of its own, where the system lets us."""
    for flags in ("-m", "-rm"):
        asked = ("unshare", flags, "sh", "-c")
        if shutil.which("unshare"):
            works = subprocess.run([*asked, "mount -t tmpfs t /mnt"], capture_output=True)
            if works.returncode == 0:
                return asked
    return None


@pytest.mark.parametrize("options", ["size=128k", "ro"])
def test_a_full_and_a_read_only_file_system(tmp_path: Path, options: str) -> None:
    asked = private_mounts()
    if asked is None:
        pytest.skip("no mounts of our own here")
    data = tmp_path / "mounted"
    data.mkdir()
    mount = f'mount -t tmpfs -o {options} t {data} && exec "$@"'
    logs = 'for n in range(300): run.log({f"m{k}": float(n) for k in range(100)})\ntime.sleep(0.5)'
    after = logs + '\nprint("dropped", sum(run.recorder.dropped.values()))'
    done = python(WATCHED.format(limit="", after=after), data, before=(*asked, mount, "sh"))
    assert done.returncode == 0, done.stderr
    wanted = bare(tmp_path)
    assert done.stdout.splitlines()[-1:] == wanted.splitlines(), "bit for bit"
    assert done.stderr.count("internal error in spool") == 1, done.stderr
