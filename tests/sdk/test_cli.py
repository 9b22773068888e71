"""The command line: help, refusals in words, and links that work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import nanwatch
from nanwatch.cli.demo import scenario_directory


def cli(tmp_path: Path, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", *arguments],
        env={
            **clean,
            "NANWATCH_DATA_DIR": str(tmp_path / "data"),
            "NANWATCH_AUTOSTART": "0",
            "COLUMNS": "100",
        },
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@pytest.mark.parametrize("command", ["", "serve", "run", "demo", "login", "sync", "send", "doctor"])
def test_every_command_has_help(tmp_path: Path, command: str) -> None:
    done = cli(tmp_path, *command.split(), "--help")
    assert done.returncode == 0 and "Usage" in done.stdout and len(done.stdout) > 200


def test_version(tmp_path: Path) -> None:
    assert cli(tmp_path, "version").stdout.strip() == nanwatch.__version__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo", "nonsense"], "expected one of"),
        (["login"], "nanwatch serve"),
        (["serve", "--host", "0.0.0.0"], "without TLS"),
        (["serve", "--allowed-host", "a b c"], "allowed"),
    ],
)
def test_refusals_say_what_to_do(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = cli(tmp_path, *arguments)
    assert done.returncode == 1, done.stdout
    assert words in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli(tmp_path, "serve", "--port", str(taken.getsockname()[1]), "--no-open")
    assert done.returncode == 1 and "--port" in done.stderr and "Traceback" not in done.stderr


def test_scenarios_are_found() -> None:
    found = {path.stem for path in scenario_directory().glob("*.py")}
    assert {"sac", "rollout", "gru", "ssm", "replay"} <= found
