"""The log: readable, no secret in it, nothing a client says is obeyed by the terminal."""

from __future__ import annotations

import subprocess
import sys

import structlog

from nanwatch_server import logs

TOKEN = "nw_admin_" + "Ab3_-" * 8 + "xyz"


def crash(cookie: str) -> None:
    headers = {"cookie": f"nanwatch_session={cookie}"}
    raise OSError(f"no room for {len(headers)} headers\x1b[2J")


def test_an_error_shows_where_it_happened_and_no_local_variable(capsys):
    structlog.reset_defaults()
    logs.configure()
    try:
        crash("ter".join(["s3cr", "s3cr", "s3cr"]))
    except OSError:
        structlog.get_logger().exception("a request failed", path="/api/runs\n2026 forged line")
    said = capsys.readouterr()
    assert said.out == ""
    assert "s3crters3cr" not in said.err and "\x1b" not in said.err
    lines = said.err.splitlines()
    assert lines[0].endswith("error a request failed path='/api/runs\\n2026 forged line'")
    assert lines[-1] == "OSError: no room for 1 headers\\x1b[2J"
    assert any("in crash" in line for line in lines) and len(lines) < 20


def test_what_looks_like_a_secret_is_masked(capsys):
    structlog.reset_defaults()
    logs.configure()
    log = structlog.get_logger()
    log.warning(
        "odd", token=TOKEN, cookie="nanwatch_session=" + "k" * 43, url="/login#code=" + "c" * 43
    )
    said = capsys.readouterr().err
    assert TOKEN not in said and "kkkkkkkk" not in said and "cccccccc" not in said
    assert "nw_admin_Ab3_-A" in said  # enough to find the token in the list


def test_a_full_disk_under_the_log_stops_nobody():
    program = (
        "import structlog; from nanwatch_server import logs; logs.configure()\n"
        "for _ in range(3): structlog.get_logger().error('the database cannot be written')\n"
        "print('alive', flush=True)"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, text=True
        )
    assert done.stdout == "alive\n"


def test_a_program_with_its_own_logging_keeps_it():
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    logs.configure()
    assert isinstance(structlog.get_config()["processors"][0], structlog.processors.JSONRenderer)
    structlog.reset_defaults()
