"""`nanwatch run`: the script must not notice, and must be watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanwatch.contract import frames
from nanwatch.link.spool import BATCH, DECLARE, scan

SCRIPT = """
import sys
import torch
torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(30):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).square().mean().backward()
    optimizer.step()
print(__name__, sys.argv[1:], sys.argv[0] == __file__, sys.path[0])
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    env = {**clean, "NANWATCH_DATA_DIR": str(tmp_path / "data"), "NANWATCH_MODE": "offline"}
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", "run", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )


def test_the_script_is_watched_and_notices_nothing(tmp_path: Path) -> None:
    script = tmp_path / "sub" / "train.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    done = run(tmp_path, "--project", "zero", str(script), "--lr", "3e-4", "--amp", "x", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        f"__main__ ['--lr', '3e-4', '--amp', 'x', '-v'] True {script.parent}"
    )
    (spool,) = (tmp_path / "data" / "spool").iterdir()
    hello = frames.decode_client((spool / "hello.msgpack").read_bytes())
    assert isinstance(hello, frames.Hello) and hello.run.project == "zero"
    assert hello.run.config["lr"] == "3e-4"
    assert hello.control is not None and hello.control.granted_by == "launch"
    assert hello.control.lr_factor == (0.001, 1.0) and hello.control.lr is None
    (segment,) = spool.glob("scalars-*.seg")
    entries = list(scan(segment))
    kinds = {
        decl.kind
        for kind, _, _, payload in entries
        if kind == DECLARE and isinstance(found := frames.decode_client(payload), frames.Declare)
        for decl in found.series
    }
    assert {"loss", "grad_norm", "lr", "update_applied"} <= kinds
    points = 0
    for kind, _, _, payload in entries:
        if kind != BATCH:
            continue
        batch = frames.decode_client(payload)
        assert isinstance(batch, frames.Batch)
        points += sum(len(r.steps) // 8 for r in batch.records if isinstance(r, frames.Table))
    assert points == 30


@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [("raise SystemExit(7)", 7, ""), ("1/0", 1, "ZeroDivisionError"), ("", 0, "")],
)
def test_exit_code_and_traceback_are_the_scripts_own(
    tmp_path: Path, ending: str, code: int, error: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"import os\n{ending}\n")
    done = run(tmp_path, str(script))
    assert done.returncode == code, done.stderr
    assert error in done.stderr


def test_a_read_only_launch_and_bad_options(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import nanwatch.run as r; print(r.current().options.offer)")
    assert run(tmp_path, "--control", "none", str(script)).stdout.strip() == "None"
    bad = run(tmp_path, "--control", "all", str(script))
    assert bad.returncode == 1 and "expects default or none" in bad.stderr
    bad = run(tmp_path, "--lr-factor", "3", str(script))
    assert bad.returncode == 1 and "lowest:highest" in bad.stderr


def test_modules_run_too(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys, json; print(json.dumps(sys.argv[1:]))")
    done = run(tmp_path, "-m", "package", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["--epochs", "3"]
