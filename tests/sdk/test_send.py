"""`nanwatch send` and `nanwatch doctor`: a shell script's way in, and what it is told."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanwatch.contract.lines import Event, LineError, Points, parse, run_id_of
from sdk.served import Served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("server"))
    yield found
    found.stop()


def eventually(look: Callable[[], Any], timeout_s: float = 15) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def cli(
    tmp_path: Path, *arguments: str, given: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", *arguments],
        env={**clean, "NANWATCH_DATA_DIR": str(tmp_path), "COLUMNS": "300", **env},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_values_and_streams_of_lines_are_stored(server: Served, tmp_path: Path) -> None:
    env = {"NANWATCH_URL": server.url, "NANWATCH_TOKEN": server.token}
    send = ("send", "--project", "shell", "--run", "night")
    run = run_id_of("shell", "night")
    done = cli(tmp_path, *send, "--step", "7", "loss=0.3", "mine=NaN", **env)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for _ in range(2):
        assert cli(tmp_path, *send, "--key", "k", "--step", "8", "loss=1e-3", **env).returncode == 0
    lines = [json.dumps({"step": step, "loss": step}) for step in range(9, 2500)]
    piped = cli(tmp_path, *send, given="\n".join([*lines[:5], "", "oops", *lines[5:]]), **env)
    assert piped.returncode == 1
    assert "line 7: expected a JSON object, got oops" in piped.stderr
    assert "1 lines were not canonical" in piped.stderr
    wanted = [0.3, 1e-3, *map(float, range(9, 2500))]
    assert eventually(lambda: server.points(run, kind="loss") == wanted)
    assert math.isnan(server.points(run, "mine")[0])
    assert cli(tmp_path, *send, "--event", "end", **env).returncode == 0
    assert eventually(lambda: server.run(run)["status"] == "ended")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "r", "loss=1"], "expected --step N"),
        (["--run", "r", "--step", "1", "loss"], "expected NAME=VALUE"),
        (["--run", "r", "--step", "1", "loss=high"], "expected a number, NaN"),
        (["--run", "r", "--step", "-1", "loss=1"], "expected a step from 0"),
        (["--run", "r", "--event", "party"], "--event expects one of config"),
        (["--step", "1", "loss=1"], "expected --run NAME"),
        (["--run", "r", "--step", "1"], "standard input carry their step"),
    ],
)
def test_what_cannot_be_sent_is_said(
    server: Served, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = cli(tmp_path, "send", *arguments, NANWATCH_URL=server.url, NANWATCH_TOKEN="x")
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_no_server_and_a_wrong_token_are_said(server: Served, tmp_path: Path) -> None:
    values = ("send", "--run", "r", "--step", "1", "loss=1")
    assert "serve --detach" in cli(tmp_path, *values).stderr
    wrong = cli(tmp_path, *values, NANWATCH_URL=server.url, NANWATCH_TOKEN="x")
    assert wrong.returncode == 1 and "refused (401)" in wrong.stderr
    gone = cli(tmp_path, *values, NANWATCH_URL="http://127.0.0.1:9", NANWATCH_TOKEN="x")
    assert gone.returncode == 1 and "no answer of the server" in gone.stderr


def test_doctor_tells_what_is_wrong(server: Served, tmp_path: Path) -> None:
    def checks(**env: str) -> tuple[int, dict[str, dict[str, str]]]:
        done = cli(tmp_path / "d", "doctor", "--json", **env)
        return done.returncode, {c["what"]: c for c in json.loads(done.stdout)["checks"]}

    code, found = checks()
    assert code == 0 and found["server"]["state"] == "note"
    assert found["data directory"]["state"] == found["Python"]["state"] == "ok"
    code, found = checks(NANWATCH_URL=server.url, NANWATCH_TOKEN=server.token)
    assert code == 0 and found["server"]["state"] == found["token"]["state"] == "ok"
    code, found = checks(NANWATCH_URL=server.url, NANWATCH_TOKEN="wrong")
    assert code == 1 and "401" in found["token"]["found"]
    code, found = checks(NANWATCH_URL="http://127.0.0.1:9", NANWATCH_TOKEN="x")
    assert code == 1 and "does not answer" in found["server"]["found"]
    code, found = checks(NANWATCH_URL="http://gpu-box:1")
    assert code == 1 and "clear text" in found["server"]["advice"]
    (tmp_path / "file").write_text("in the way")
    code, found = checks(NANWATCH_DATA_DIR=str(tmp_path / "file" / "data"))
    assert code == 1 and found["data directory"]["state"] == "bad"
    assert "ok" in cli(tmp_path, "doctor").stderr


def test_lines_are_read_as_the_design_says() -> None:
    line = (
        '{"step":7,"loss":2.1,"grad_norm":7.0,"clip_threshold":1.0,"update_applied":true,'
        '"grad_norm_layer":{"gru":4.7},"q1.q_mean":3.2,"a b":"-Infinity"}'
    )
    assert parse(line) == Points(
        step=7,
        time=None,
        stage="train",
        values={
            ("loss", "", ""): 2.1,
            ("grad_norm", "", ""): 7.0,
            ("clip_threshold", "", ""): 1.0,
            ("update_applied", "", ""): 1.0,
            ("grad_norm_layer", "", "gru"): 4.7,
            ("q_mean", "q1", ""): 3.2,
            ("custom", "", "a_b"): -math.inf,
        },
    )
    assert parse('{"event":"config","config":{"gamma":0.99,"T":256}}') == Event(
        event="config", step=None, time=None, text="config", data={"gamma": "0.99", "T": "256"}
    )
    assert parse("  \n") is None
    huge = parse('{"step":1,"loss":1' + "0" * 400 + ',"mine":1e999}')
    assert isinstance(huge, Points) and set(huge.values.values()) == {math.inf}
    with pytest.raises(LineError, match="line 3: "):
        parse("nonsense", 3)


def test_a_stream_of_wide_lines_and_of_bytes_that_are_no_text(
    server: Served, tmp_path: Path
) -> None:
    layers = {f"encoder.layers.{n}.self_attention.projection.weight": n / 7 for n in range(100)}
    lines = [json.dumps({"step": n, "loss": n, "grad_norm_layer": layers}) for n in range(1_000)]
    assert sum(map(len, lines)) > 6 << 20, "more than a body may hold"
    given = "\n".join([*lines[:3], '{"step": 1, "mine\udcff": 1}', *lines[3:]])
    done = subprocess.run(
        [sys.executable, "-m", "nanwatch", "send", "--project", "shell", "--run", "wide"],
        env={
            **os.environ,
            "NANWATCH_DATA_DIR": str(tmp_path),
            "NANWATCH_URL": server.url,
            "NANWATCH_TOKEN": server.token,
        },
        input=given.encode("utf-8", "surrogateescape"),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1 and b"line 4: expected UTF-8" in done.stderr, done.stderr
    wanted = [float(n) for n in range(1_000)]
    run = run_id_of("shell", "wide")
    assert eventually(lambda: server.points(run, kind="loss") == wanted)


def test_a_server_that_says_no_does_not_end_the_training_that_writes(
    server: Served, tmp_path: Path
) -> None:
    code = 'import time\nfor n in range(40):\n    print(\'{"step": 1, "loss": 1}\', flush=True)\n'
    code += "    time.sleep(0.05)\nopen('trained', 'w')\n"
    env = {**os.environ, "NANWATCH_URL": server.url, "NANWATCH_TOKEN": "wrong"}
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | "$0" -m nanwatch send --run r', sys.executable, code],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "0 lines are stored, the rest is not" in done.stderr
    assert (tmp_path / "trained").exists() and "BrokenPipe" not in done.stderr
