"""`nanwatch run`: the script must not notice, and must be watched.

Every script runs twice, bare and under `nanwatch run`, and must say and do the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from nanwatch.contract import frames
from nanwatch.launch import NotFound, interpreter_flags, plan
from nanwatch.link.spool import BATCH, DECLARE, scan
from sdk.served import Served

TRAIN = """
import os, sys
if "NANWATCH_LAUNCHED" in os.environ:  # the bare run has nothing to show: torch takes seconds
    import torch
    torch.manual_seed(0)
def train(steps=30):
    if "NANWATCH_LAUNCHED" not in os.environ:
        return
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    clean.pop("PYTHONPATH", None)
    return {
        **clean,
        "NANWATCH_DATA_DIR": str(tmp_path / "data"),
        "NANWATCH_MODE": "offline",
        "NANWATCH_AUTOSTART": "0",
        "COLUMNS": "200",
        **more,
    }


def call(tmp_path: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(tmp_path, **env),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )


def run(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return call(tmp_path, sys.executable, "-m", "nanwatch", "run", *arguments, **env)


def script(tmp_path: Path, code: str, name: str = "train.py") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


def hellos(tmp_path: Path) -> list[frames.Hello]:
    """One for each process that was watched."""
    found = []
    for path in sorted((tmp_path / "data").glob("spool/*/hello.msgpack")):
        hello = frames.decode_client(path.read_bytes())
        assert isinstance(hello, frames.Hello)
        found.append(hello)
    return found


def same(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run bare and watched; everything a caller can see must be equal."""
    bare = call(tmp_path, sys.executable, *arguments)
    watched = run(tmp_path, *arguments)
    assert (watched.returncode, watched.stdout) == (bare.returncode, bare.stdout), watched.stderr
    # Beside the script's own words there may be lines of ours, which say whose they are.
    theirs = [line for line in watched.stderr.splitlines() if not line.startswith("nanwatch: ")]
    assert theirs == bare.stderr.splitlines()
    return watched


def test_the_script_is_watched_and_notices_nothing(tmp_path: Path) -> None:
    path = script(tmp_path, TRAIN + "train()\nprint(__name__, sys.argv, __file__, sys.path[0])")
    done = run(tmp_path, "--project", "zero", "--name", "n", str(path), "--lr", "3e-4", "--name")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    arguments = [str(path), "--lr", "3e-4", "--name"]
    assert done.stdout.strip() == f"__main__ {arguments} {path} {path.parent}"
    (hello,) = hellos(tmp_path)
    assert (hello.run.project, hello.run.name) == ("zero", "n")
    assert hello.run.config == {"lr": "3e-4", "name": "1"}
    assert hello.control is not None and hello.control.granted_by == "launch"
    assert hello.control.lr_factor == (0.001, 1.0) and hello.control.lr is None
    (segment,) = (tmp_path / "data").glob("spool/*/scalars-*.seg")
    assert steps_of(segment, "update_applied") == list(range(1, 31))


def steps_of(segment: Path, wanted: str) -> list[int]:
    ids: set[int] = set()
    steps: list[int] = []
    for kind, _, _, payload in scan(segment):
        frame = frames.decode_client(payload)
        if kind == DECLARE and isinstance(frame, frames.Declare):
            ids |= {decl.id for decl in frame.series if decl.kind == wanted}
        elif kind == BATCH and isinstance(frame, frames.Batch):
            for record in frame.records:
                if isinstance(record, frames.Table) and ids & set(record.ids):
                    steps += memoryview(record.steps).cast("q").tolist()
    return steps


SCALED = """
import torch
model = torch.nn.Linear(3, 1)
optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cpu")
losses = []
for _ in range(4):
    loss = model(torch.ones(2, 3)).square().mean()
    losses.append(loss.item())
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
print(*losses)
"""


def test_the_first_loss_too_is_that_before_it_was_scaled(tmp_path: Path) -> None:
    """Where nothing is cleared before the first batch, scaling is the first that can be seen."""
    done = run(tmp_path, str(script(tmp_path, SCALED)))
    (segment,) = (tmp_path / "data").glob("spool/*/scalars-*.seg")
    assert values_of(segment, "loss") == pytest.approx([float(x) for x in done.stdout.split()])


def values_of(segment: Path, wanted: str) -> list[float]:
    number, values = -1, []
    for kind, _, _, payload in scan(segment):
        frame = frames.decode_client(payload)
        if kind == DECLARE and isinstance(frame, frames.Declare):
            number = next((decl.id for decl in frame.series if decl.kind == wanted), number)
        elif kind == BATCH and isinstance(frame, frames.Batch):
            for table in frame.records:
                if isinstance(table, frames.Table) and number in table.ids:
                    rows, column = len(table.steps) // 8, table.ids.index(number)
                    block = memoryview(table.values).cast("d")
                    values += block[column * rows : (column + 1) * rows].tolist()
    return values


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "raise SystemExit(7)",
        "sys.exit('text on stderr')",
        "sys.exit(None)",
        "1/0",
        "raise KeyboardInterrupt",
        "import os; os._exit(5)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
        "assert False, 'assertions are on'",
        "import threading; t = threading.Thread(target=sys.exit); t.start(); t.join()",
        "def f(): raise ValueError('x') from KeyError('y')\nf()",
        "class Mute(Exception):\n    def __str__(self): raise RuntimeError('no text')\nraise Mute",
    ],
)
def test_ends_as_bare(tmp_path: Path, ending: str) -> None:
    same(tmp_path, str(script(tmp_path, f"{TRAIN}\ntrain(3)\n{ending}\n")))


def test_no_frame_of_ours_stands_in_the_users_traceback(tmp_path: Path) -> None:
    code = TRAIN + textwrap.dedent("""
        import torch
        class Bad(torch.optim.SGD):
            def zero_grad(self, set_to_none=True):
                return super().zero_grad(set_to_none)
            def step(self, closure=None):
                raise RuntimeError("the user's own")
        train(2)
        p = torch.nn.Parameter(torch.ones(2))
        optimizer = Bad([p], 0.1)
        optimizer.zero_grad()
        try:
            (p * torch.ones(2)).backward()
        except RuntimeError as error:
            raise ValueError("chained") from error
    """)
    done = same(tmp_path, str(script(tmp_path, code)))
    assert "grad can be implicitly created" in done.stderr and "chained" in done.stderr
    assert "/nanwatch/" not in done.stderr


def test_interpreter_and_environment_are_as_bare(tmp_path: Path) -> None:
    code = """
    import os, pickle, sys, signal
    class Here: pass
    print(sys.flags, sys.argv, sys.orig_argv[1:], sys.path, __spec__ and __spec__.name, __file__)
    print(pickle.dumps(Here), [signal.getsignal(s) for s in signal.valid_signals()])
    print(sorted(m for m in sys.modules if "nanwatch" in m), sys.meta_path[-3:])
    if __name__ == "__main__": print("main")
    """
    script(tmp_path, code)
    same(tmp_path, "train.py", "--project", "mine", "-m", "--help")
    script(tmp_path, "", "package/__init__.py")
    script(tmp_path, code, "package/__main__.py")
    same(tmp_path, "-m", "package", "-x")
    same(tmp_path, "package")


def test_options_of_the_interpreter_are_kept(tmp_path: Path) -> None:
    script(tmp_path, "import sys; print(sys.flags, sys.warnoptions, sys._xoptions, sys.orig_argv)")
    flags = ["-u", "-O", "-W", "ignore::UserWarning", "-Xfaulthandler"]
    bare = call(tmp_path, sys.executable, *flags, "train.py")
    done = call(tmp_path, sys.executable, *flags, "-m", "nanwatch", "run", "train.py")
    assert done.stdout.replace(repr(sys.executable), "") == bare.stdout.replace(
        repr(sys.executable), ""
    )
    assert interpreter_flags(["py", "-um", "nanwatch"]) == ["-u"]
    assert interpreter_flags(["py", "-c", "x", "-O"]) == []
    assert interpreter_flags(["py", "/bin/nanwatch", "run", "-u"]) == []


def test_the_users_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    script(tmp_path, "import builtins; builtins.mine = 'customised'", "site/sitecustomize.py")
    script(tmp_path, TRAIN + "train()\nimport sitecustomize\nprint(mine, sitecustomize.__file__)")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    bare = call(tmp_path, sys.executable, "train.py", **env)
    done = run(tmp_path, "train.py", **env)
    assert done.stdout == bare.stdout and "customised" in done.stdout and done.stderr == ""
    assert len(hellos(tmp_path)) == 1


def test_classes_of_main_travel_to_spawned_children(tmp_path: Path) -> None:
    code = TRAIN + textwrap.dedent("""
        import multiprocessing
        class Task:
            def __init__(self, n): self.n = n
        def work(task): return type(task).__module__, task.n
        if __name__ == "__main__":
            train()
            for method in ("spawn", "forkserver", "fork"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    print(method, pool.map(work, [Task(1), Task(2)]))
    """)
    same(tmp_path, str(script(tmp_path, code)))
    assert len(hellos(tmp_path)) == 1, "only the process that trains is watched"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loader_workers_are_left_alone(tmp_path: Path, method: str) -> None:
    code = TRAIN + textwrap.dedent(f"""
        import torch
        from torch.utils.data import DataLoader, Dataset
        class Data(Dataset):
            def __len__(self): return 8
            def __getitem__(self, n):
                x = torch.ones(3, requires_grad=True)
                x.sum().backward()  # adversarial augmentation, of all things
                return x.grad
        if __name__ == "__main__":
            for batch in DataLoader(Data(), batch_size=4, num_workers=2,
                                    multiprocessing_context="{method}"):
                train(3)
            print(batch)
    """)
    same(tmp_path, str(script(tmp_path, code)))
    assert len(hellos(tmp_path)) == 1


def ends(tmp_path: Path) -> list[tuple[int, str, int | None]]:
    """(last step on the disk, reason, exit code) of each process that was watched."""
    found = []
    for path in sorted((tmp_path / "data").glob("spool/*/end.json")):
        told = json.loads(path.read_text())
        steps = [
            step
            for segment in sorted(path.parent.glob("scalars-*.seg"))
            for step in steps_of(segment, "update_applied")
        ]
        assert steps == list(range(1, len(steps) + 1))
        found.append((len(steps), told["reason"], told["exit_code"]))
    return sorted(found)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("ending", "reason", "code"),
    [
        ("return", "finished", None),
        ("raise ValueError('bad')", "ValueError: bad", 1),
        ("sys.exit(3)", "finished", None),
    ],
)
def test_the_end_of_a_child_of_multiprocessing_is_known(
    tmp_path: Path, method: str, ending: str, reason: str, code: int | None
) -> None:
    script(
        tmp_path,
        TRAIN
        + textwrap.dedent(f"""
        import multiprocessing
        def work():
            train(30)
            {ending}
        if __name__ == "__main__":
            child = multiprocessing.get_context("{method}").Process(target=work)
            child.start()
            child.join()
            print(child.exitcode)
        """),
    )
    same(tmp_path, "train.py")
    assert ends(tmp_path) == [(30, reason, code)]


def test_the_ends_of_children_begun_by_others_are_known(tmp_path: Path) -> None:
    script(
        tmp_path,
        TRAIN
        + textwrap.dedent("""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        import torch.multiprocessing
        def rank(number):
            train(20)
            raise ValueError("bad")
        if __name__ == "__main__":
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                print(list(pool.map(train, [15, 15])))
            try:
                torch.multiprocessing.start_processes(rank, nprocs=1, start_method="fork")
            except torch.multiprocessing.ProcessRaisedException:
                print("raised")
        """),
    )
    done = run(tmp_path, "train.py")
    assert (done.returncode, done.stdout) == (0, "[None, None]\nraised\n"), done.stderr
    assert ends(tmp_path) == [(20, "ValueError: bad", 1), (30, "finished", None)]


@pytest.mark.parametrize("parent", ["train(5)", "import nanwatch; nanwatch.init('mine')"])
def test_forked_children_of_a_parent_with_a_run_are_runs_of_their_own(
    tmp_path: Path, parent: str
) -> None:
    script(
        tmp_path,
        TRAIN
        + textwrap.dedent(f"""
        import multiprocessing
        context = multiprocessing.get_context("fork")
        def begin(work, *arguments):
            child = context.Process(target=work, args=arguments)
            child.start()
            return child
        def end(child):
            child.join()
            assert child.exitcode == 0
        def worker(steps):
            train(steps)
        def with_a_child(steps):
            train(steps)
            end(begin(worker, 12))
            train(steps)
        def by_itself():
            if "NANWATCH_LAUNCHED" in os.environ:
                import nanwatch
                nanwatch.init("own")
            train(14)
        if "NANWATCH_LAUNCHED" in os.environ:
            {parent}
        children = [begin(worker, 20), begin(with_a_child, 15), begin(by_itself), begin(print)]
        for child in children:
            end(child)
        train(3)
        """),
    )
    same(tmp_path, "train.py")
    trained = 8 if parent == "train(5)" else 3
    wanted = [trained, 12, 14, 20, 30]
    assert ends(tmp_path) == [(steps, "finished", None) for steps in wanted]
    theirs = "default" if parent == "train(5)" else "mine"
    assert sorted(hello.run.project for hello in hellos(tmp_path)) == sorted([*[theirs] * 4, "own"])


def test_a_fork_while_the_parent_imports_what_it_sends_with_reaches_the_server(
    tmp_path: Path,
) -> None:
    script(
        tmp_path,
        TRAIN
        + textwrap.dedent("""
        import importlib.util, multiprocessing, threading
        import nanwatch
        parent, begun, go_on = os.getpid(), threading.Event(), threading.Event()
        class Slow:  # holds up the parent's background thread in the middle of `websockets.client`
            def find_spec(self, name, path=None, target=None):
                if name == "websockets.uri" and os.getpid() == parent:
                    begun.set()
                    go_on.wait(30)
        sys.meta_path.insert(0, Slow())
        nanwatch.init("slow")
        assert begun.wait(30) and sys.modules["websockets.client"].__spec__._initializing
        child = multiprocessing.get_context("fork").Process(target=train, args=(20,))
        child.start()
        child.join()
        go_on.set()
        print(child.exitcode)
        """),
    )
    served = Served(tmp_path / "server")
    try:
        url = {"NANWATCH_URL": served.url, "NANWATCH_TOKEN": served.token}
        done = run(tmp_path, "train.py", NANWATCH_MODE="online", **url)
        assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
        runs = served.client.get("/api/runs")["runs"]
        assert [one["status"] for one in runs] == ["ended", "ended"]
        assert sorted(one["last_step"] for one in runs) == [0, 20], done.stderr
    finally:
        served.stop()


def test_a_script_that_calls_init_itself_makes_one_run(tmp_path: Path) -> None:
    code = TRAIN + "import nanwatch\nnanwatch.init('own', name='mine')\ntrain()\n"
    assert run(tmp_path, "--project", "p", str(script(tmp_path, code))).returncode == 0
    (hello,) = hellos(tmp_path)
    assert (hello.run.project, hello.run.name) == ("own", "mine")
    assert hello.control is not None and hello.control.granted_by == "launch"


def test_torch_is_imported_by_the_script_only(tmp_path: Path) -> None:
    done = run(tmp_path, str(script(tmp_path, "import sys; print('torch' in sys.modules)")))
    assert done.stdout.strip() == "False" and not hellos(tmp_path)


def test_a_python_without_nanwatch_trains_on_unwatched(tmp_path: Path) -> None:
    script(tmp_path, "raise ImportError('not in this Python')", "shadow/nanwatch/__init__.py")
    script(tmp_path, TRAIN + "train()\nprint('trained')")
    python = f'PYTHONPATH="$PYTHONPATH:{tmp_path}/shadow" exec {sys.executable} train.py'
    done = run(tmp_path, "bash", "-c", python)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr == "nanwatch: this process is not watched: not in this Python\n"


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "train.py"],
        ["bash", "-c", f"{sys.executable} train.py"],
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.check_call([sys.executable, 'train.py'])",
        ],
    ],
)
def test_programs_that_start_the_training_are_followed(tmp_path: Path, command: list[str]) -> None:
    script(tmp_path, TRAIN + "train()\nprint('trained')")
    done = run(tmp_path, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "trained\n", "")
    assert [hello.run.facts["script"] for hello in hellos(tmp_path)] == ["train.py"]


@pytest.mark.parametrize("inside", [True, False])
def test_torchrun_on_both_sides(tmp_path: Path, inside: bool) -> None:
    script(tmp_path, TRAIN + "import os\ntrain()\nprint('rank', os.environ['RANK'], sys.argv[1:])")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    if inside:
        done = call(
            tmp_path,
            *(sys.executable, *torchrun, "-m", "nanwatch", "run", "train.py", "--x", "1"),
        )
    else:
        done = run(tmp_path, *torchrun, "train.py", "--x", "1")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "rank 0 ['--x', '1']", "rank 1 ['--x', '1']"]
    assert len(hellos(tmp_path)) == 2


def test_what_cannot_be_started_is_said(tmp_path: Path) -> None:
    missing = run(tmp_path, "no-such-program")
    assert missing.returncode == 127 and "train.py" in missing.stderr
    same(tmp_path, "no_such_script.py")
    bad = run(tmp_path, "--control", "all", "train.py")
    assert bad.returncode == 1 and "expects default or none" in bad.stderr
    for factor in ("3", "2:1", "0:1", "nan:1"):
        bad = run(tmp_path, "--lr-factor", factor, "train.py")
        assert bad.returncode == 1 and "--lr-factor expects" in bad.stderr
    with pytest.raises(NotFound, match="PATH"):
        plan(["nothing-of-this-name"], as_module=False, environ={})


def test_a_read_only_launch(tmp_path: Path) -> None:
    path = script(tmp_path, TRAIN + "train()")
    assert run(tmp_path, "--control", "none", str(path)).returncode == 0
    assert hellos(tmp_path)[0].control is None


def test_stop_from_the_page_ends_with_0(tmp_path: Path) -> None:
    code = TRAIN + textwrap.dedent("""
        train(3)
        from nanwatch.control.inbox import StopTraining
        raise StopTraining("stopped; checkpoint in /c.pt")
    """)
    done = run(tmp_path, str(script(tmp_path, code)))
    assert (done.returncode, done.stderr) == (0, "stopped; checkpoint in /c.pt\n")


def test_ctrl_c_twice_ends_at_once_and_quietly(tmp_path: Path) -> None:
    code = TRAIN + textwrap.dedent("""
        import signal, time
        signal.signal(signal.SIGUSR1, lambda *_: print("user's handler", flush=True))
        print("up", flush=True)
        while True: train(10); time.sleep(0.01)
    """)
    path = script(tmp_path, code)
    with subprocess.Popen(
        [sys.executable, "-m", "nanwatch", "run", str(path)],
        env=environment(tmp_path, NANWATCH_MODE="online", NANWATCH_URL="http://127.0.0.1:9"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "user's handler\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()  # or the test would wait for ever, and all others with it
            raise
        assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors and "site-packages/nanwatch" not in errors
    assert "nanwatch/" not in errors, errors


def test_a_script_that_first_asks_whether_torch_is_there_is_watched(tmp_path: Path) -> None:
    code = """
    import importlib.util, sys
    assert importlib.util.find_spec("torch") is not None  # as transformers does at import
    sys.path.insert(0, "broken")
    try:
        import torch
    except ImportError as error:
        print(error)
    sys.path.remove("broken")
    """
    script(tmp_path, "raise ImportError('a library is missing')", "broken/torch.py")
    script(tmp_path, textwrap.dedent(code) + TRAIN + "train()")
    done = run(tmp_path, "train.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a library is missing\n", "")
    assert len(hellos(tmp_path)) == 1


def test_arguments_that_are_no_text_are_shown_as_they_are(tmp_path: Path) -> None:
    script(tmp_path, TRAIN + "train()\nraise FileNotFoundError(sys.argv[2])")
    command = [sys.executable, "-m", "nanwatch", "run", "train.py", "--data", b"\xff.csv"]
    done = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 1 and b"internal error" not in done.stderr
    (hello,) = hellos(tmp_path)
    assert hello.run.config == {"data": "\\udcff.csv"}


def test_a_script_that_changes_its_directory_leaves_its_data_in_one_place(tmp_path: Path) -> None:
    script(tmp_path, "import os\nos.mkdir('results')\nos.chdir('results')\n" + TRAIN + "train()")
    assert run(tmp_path, "train.py", NANWATCH_DATA_DIR="data").returncode == 0
    assert len(hellos(tmp_path)) == 1 and not list(tmp_path.glob("results/*"))


def test_a_directory_called_like_the_program_is_not_the_program(tmp_path: Path) -> None:
    (tmp_path / "bash").mkdir()  # as `accelerate` lies in a clone of accelerate
    assert run(tmp_path, "bash", "-c", "echo started").stdout == "started\n"
    (tmp_path / "x[").mkdir()
    missing = run(tmp_path, "x[/]y")
    assert missing.returncode == 127 and "'x[/]y'" in missing.stderr
