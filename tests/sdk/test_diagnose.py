"""`nanwatch diagnose` as a person calls it: real checkpoints, the real child, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nanwatch.control import checkpoint as own
from nanwatch.forensics.checkpoint import parent
from nanwatch.forensics.checkpoint.facts import Job, Progress
from nanwatch.forensics.checkpoint.judge import judge
from sdk.checkpoints import rules, save, train

NAN = float("nan")


def call(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanwatch", "diagnose", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_a_healthy_checkpoint_gives_no_finding(tmp_path: Path) -> None:
    path = save(tmp_path / "good.pt", *train(), step=60)
    done = call(path)
    assert done.returncode == 0, done.stdout + done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith(" HEALTHY ") and "good.pt" in done.stdout
    assert "Nothing wrong in 8 tensors" in done.stdout and "Adam at step 60" in done.stdout
    assert "warning" not in done.stdout and "notice" not in done.stdout
    assert done.stderr == "", "progress is drawn on a terminal only"


def test_a_poisoned_checkpoint_is_critical(tmp_path: Path) -> None:
    model, optimizer = train()
    earlier = save(tmp_path / "earlier.pt", model, optimizer, step=60)
    with torch.no_grad():
        model(torch.randn(8, 10)).mean()
        for parameter in model.parameters():
            parameter.fill_(NAN)
    path = save(tmp_path / "bad.pt", model, optimizer, step=61)
    done = call(path, "--against", earlier, "--format", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["verdict"] == "critical" and said["file"] == str(path)
    found = {f["rule"]: f for f in said["findings"]}
    assert "all at once" in found["nonfinite-weights"]["message"]
    assert found["nonfinite-weights"]["where"][0] == "model: 0.weight"
    assert found["became-nonfinite"]["severity"] == "critical"
    assert said["weights"]["norm"]["max"] == 0.0  # of the finite elements: there are none
    assert len(said["checkpoint"]["comparison"]["changes"]) == 8
    assert said["checkpoint"]["counters"] == {"step": 61.0}


def test_the_report_begins_with_what_is_wrong(tmp_path: Path) -> None:
    model, optimizer = train()
    with torch.no_grad():
        model[3].weight[1, 2] = NAN
    done = call(save(tmp_path / "bad.pt", model, optimizer))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(" CRITICAL ")
    # A long path is broken over several lines; what is wrong begins after the first empty one.
    assert lines[lines.index("") + 1] == "critical  nonfinite-weights"
    said = " ".join(done.stdout.split())
    assert "1 of 6 weight tensors of model holds 1 values that are not finite (NaN)" in said
    assert "the first in order is 3.weight" in said
    assert said.index("nonfinite-weights") < said.index("log10|w| by group")


def test_what_cannot_be_looked_at_is_code_2(tmp_path: Path) -> None:
    done = call(tmp_path / "none.pt")
    assert done.returncode == 2 and "there is no" in done.stderr
    (tmp_path / "text.pt").write_text("hello")
    done = call(tmp_path / "text.pt", "--format", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["verdict"] == "unusable"


def test_help_says_what_runs_code(tmp_path: Path) -> None:
    said = " ".join(call("--help").stdout.replace("│", " ").split())
    assert "RUNS YOUR CODE" in said and "code in it is never run" in said
    assert "0 nothing critical, 1 critical findings, 2 it cannot be looked at" in said


def test_a_checkpoint_of_nanwatch_itself(tmp_path: Path) -> None:
    model, optimizer = train(steps=100)
    optimizer.param_groups[0]["nanwatch_lr_factor"] = 0.1
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    path = own.save(tmp_path, 400, {"policy": model}, {"policy": optimizer}, {"scaler": scaler})
    seen: list[Progress] = []
    facts = parent.look(Job(str(path)), seen.append)
    assert facts.layout == "nanwatch" and facts.counters == {"step": 400.0}
    assert facts.tensors[0].title == "policy: 0.weight"
    assert facts.scalers["scaler"]["scale"] == 1024.0
    assert facts.optimizers[0].states[0].name == "policy: 0.weight"
    verdict = judge(facts)
    # 400 attempts and 100 updates: the file itself tells that three of four were skipped.
    assert verdict.verdict == "critical"
    assert rules(verdict) == ["skipped-updates", "lr-factor"]
    assert "75% were skipped" in verdict.findings[0].message
    assert seen and seen[0].text == "loading torch"


@pytest.mark.parametrize("given", ["timesteps", "1x=2"])
def test_arguments_are_checked(tmp_path: Path, given: str) -> None:
    path = save(tmp_path / "good.pt", train(steps=2)[0])
    done = call(path, "--script", "none:factory", "--arg", given)
    assert done.returncode == 2 and "--arg KEY=VALUE" in done.stderr
