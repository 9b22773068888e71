"""A training is the same to the last bit with and without nanwatch: weights, optimizer state,
random numbers, what it prints and how it ends. Sick variants run into their NaN."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

PROGRAM = Path(__file__).parent / "fingerprint.py"

STEPS = {
    ("sac", "sick"): 300,
    ("gru", "sick"): 80,
    ("ssm", "sick"): 640,
    ("rollout", "sick"): 320,
    ("replay", "sick"): 300,
    ("replay", "healthy"): 200,
    ("ssm", "healthy"): 200,
}
"""`ssm` and `rollout` go beyond their first non-finite value: seconds, not minutes."""


def fingerprint(directory: Path, scenario: str, variant: str, mode: str) -> str:
    """What the scenario came to, with nanwatch in `mode`."""
    steps = str(STEPS[scenario, variant])
    healthy = ["--healthy"] if variant == "healthy" else []
    done = subprocess.run(
        [sys.executable, str(PROGRAM), scenario, "--steps", steps, *healthy],
        env={
            **os.environ,
            "NANWATCH_MODE": mode,
            "NANWATCH_DATA_DIR": str(directory / mode),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "internal error" not in done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("scenario", "variant"), list(STEPS))
def test_the_last_bit(tmp_path: Path, scenario: str, variant: str) -> None:
    with_us = fingerprint(tmp_path, scenario, variant, "offline")
    assert list((tmp_path / "offline").glob("spool/*/*")), "nanwatch watched nothing"
    assert with_us == fingerprint(tmp_path, scenario, variant, "off")
