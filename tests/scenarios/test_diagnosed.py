"""`nanwatch diagnose` of what the five incidents leave behind, and of what their cures do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanwatch.forensics.checkpoint import parent
from nanwatch.forensics.checkpoint.facts import Job
from nanwatch.forensics.checkpoint.judge import judge

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).with_name("leave_checkpoint.py")

LEFT = {
    # Anomaly mode raises before the NaN reaches a weight: those have grown to thousands by then.
    "gru": ("suspect", set()),
    "ssm": ("critical", {"nonfinite-weights", "nonfinite-optimizer"}),
    "sac": ("critical", {"nonfinite-weights", "nonfinite-optimizer"}),
    "rollout": ("critical", {"skipped-updates"}),
    "replay": ("critical", {"nonfinite-weights", "nonfinite-buffers", "nonfinite-optimizer"}),
}


def leave(directory: Path, *arguments: str) -> Path:
    """Train, and the checkpoint that was left."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(directory), *arguments],
        capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "NANWATCH_MODE": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return Path(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", LEFT)
def test_what_an_incident_leaves(tmp_path: Path, name: str) -> None:
    steps = {"rollout": "750"}.get(name)
    path = leave(tmp_path, name, *(["--steps", steps] if steps else []))
    verdict = judge(parent.look(Job(str(path)), lambda progress: None))
    wanted, rules = LEFT[name]
    assert verdict.verdict == wanted, verdict.text
    assert {f.rule for f in verdict.findings if f.severity == "critical"} == rules


@pytest.mark.parametrize("name", ["gru", "ssm"])
def test_what_a_cure_leaves(tmp_path: Path, name: str) -> None:
    path = leave(tmp_path, name, "--healthy", "--steps", "300")
    verdict = judge(parent.look(Job(str(path)), lambda progress: None))
    assert (verdict.verdict, verdict.findings) == ("healthy", [])
