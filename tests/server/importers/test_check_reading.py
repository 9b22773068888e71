"""`nanwatch check` over logs that can be read in part, not at all, or not yet."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROWS = "step,loss\n1,2\n2,3\n"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nanwatch", "check", *arguments]


def check(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return subprocess.run(
        command(*arguments),
        env={**env, "NANWATCH_DATA_DIR": str(cwd / "data"), "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"step;loss\n1;high\n2;low\n", "expected numbers in a.csv, found none for loss"),
        ("a.csv", b"step,loss\n", "nothing in a.csv could be read"),
        ("a.csv", bytes(range(256)) * 3, "got binary data"),
        ("a.csv", b"\xff\xfes\0t\0", "save it as UTF-8"),
        ("a.jsonl", bytes(range(1, 99)), "nothing in a.jsonl could be read: line 1: expected"),
        ("events.out.tfevents.1", bytes(500), "500 bytes at its end are no record: nothing could"),
    ],
)
def test_a_log_without_a_number_is_never_without_trouble(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    done = check(name, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout, done.stdout
    assert words in done.stderr and "Traceback" not in done.stderr


def test_what_is_unreadable_in_a_folder_is_said_and_the_others_are_judged(tmp_path: Path) -> None:
    (tmp_path / "mac.csv").write_bytes(ROWS.replace("\n", "\r").encode())
    (tmp_path / "excel.csv").write_text("step;loss\n1;2,5\n")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "texts.csv").write_text("step,loss\n1,high\n")
    done = check(".", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("No trouble found.") == 2
    assert "mac.csv · CSV · steps 1 to 2 · 2 points" in done.stdout
    assert "excel.csv · CSV · steps 1 to 1 · 1 points" in done.stdout
    assert "passed over: image.csv: expected a first line with names" in done.stderr
    assert "passed over: expected numbers in texts.csv, found none" in done.stderr
    (tmp_path / "sick.csv").write_text("step,loss\n1,2\n2,nan(ind)\n3,-nan\n")
    done = check(".", "--format", "json", cwd=tmp_path)
    told = json.loads(done.stdout)["runs"]
    assert done.returncode == 1 and [run["run"] for run in told] == ["excel", "mac", "sick"]


def test_what_was_lost_stands_in_the_report(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path / "run")) as writer:
        for step in range(300):
            writer.add_scalar("loss", 1.0, step)
    (path,) = (tmp_path / "run").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:3_000] + bytes(400) + data[3_400:])
    done = check("run", "--html", "report.html", cwd=tmp_path)
    assert "LOST: events.out.tfevents." in done.stdout
    assert "damaged bytes left out between steps 68 and" in done.stdout
    assert "damaged bytes left out between" in (tmp_path / "report.html").read_text()


def until(what: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.1)
    return what()


def test_a_folder_is_watched_for_its_first_log_and_each_trouble_is_said_once(
    tmp_path: Path,
) -> None:
    """A loss that is NaN in turns: every return is a finding, all of them are one trouble."""
    (tmp_path / "runs").mkdir()
    said = tmp_path / "said"
    with open(said, "w") as stderr:
        process = subprocess.Popen(
            command("runs", "--follow"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert until(lambda: "waiting for the first log: expected logs in runs" in said.read_text())
        assert process.poll() is None
        with open(tmp_path / "runs" / "a.csv", "w") as file:
            file.write("step,loss,grad_norm\n")
            for start in range(0, 1_600, 400):
                for step in range(start, start + 400):
                    bad = step > 300 and step % 100 < 20
                    file.write(f"{step},{'nan' if bad else 1 + step % 7 / 10},{1 + step % 5}\n")
                file.flush()
                time.sleep(1.2)
        assert until(lambda: "critical" in said.read_text())
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1 and "CRITICAL" in out
    lines = [line for line in said.read_text().splitlines() if line.startswith("critical")]
    assert lines and len(lines) == len(set(lines)) == 1, said.read_text()


def test_stopped_while_nothing_was_there(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    process = subprocess.Popen(
        command("runs", "--follow"), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2 and "stopped before there was a log in runs" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("rises", [True, False])
def test_evaluations_of_a_log_are_judged(tmp_path: Path, rises: bool) -> None:
    rows = ["step,train_loss,val_loss"]
    for step in range(800):
        noise = 1 + 0.05 * math.sin(step * 7.3)
        trained = 2.0 * math.exp(-step / 120) * noise + 0.01
        held_out = 0.3 + 0.01 * math.sin(step) + (max(0, step - 300) / 100 if rises else 0.0)
        rows.append(f"{step},{trained:.6g},{'' if step % 40 else f'{held_out:.6g}'}")
    (tmp_path / "log.csv").write_text("\n".join(rows))
    done = check("log.csv", "--format", "json", cwd=tmp_path)
    report = json.loads(done.stdout)
    told = {one["rule"] for one in report["findings"] if one["severity"] == "warning"}
    assert told == ({"validation_loss"} if rises else set())
    (ran,) = [one for one in report["coverage"] if one["rule"] == "validation_loss"]
    assert ran["ran"] and ran["records"] == 20


@pytest.mark.parametrize("name", ["a.csv", "events.out.tfevents.1"])
def test_a_log_that_is_deleted_before_it_is_read_is_no_finding(tmp_path: Path, name: str) -> None:
    """What was opened can be read still; what was not, ends with the code for it."""
    (tmp_path / name).write_bytes(ROWS.encode())
    script = (
        "import sys; from pathlib import Path; from nanwatch.cli import check; one = sys.argv[1]\n"
        "readings = check._readings([one], (), {}, None, False); Path(one).unlink()\n"
        "good = check._judge(readings, False, True); assert good[0].source.rows.step == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == (0 if name == "a.csv" else 2), done.stderr
    assert "Traceback" not in done.stderr and ("No such file" in done.stderr) == (name != "a.csv")
