"""Real trainings in real processes, for faults that cannot be judged from inside."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from array import array
from pathlib import Path

from nanwatch.contract.frames import Batch, Table, decode_client
from nanwatch.link.spool import BATCH, scan

TRAIN = """
import hashlib, os, sys, time
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
def train(steps=50):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 4)).square().mean().backward()
        optimizer.step()
def weights():
    return hashlib.sha256(model.weight.detach().numpy().tobytes()).hexdigest()
"""


def environment(data: Path, **env: str) -> dict[str, str]:
    """Of a process that keeps its data in `data` and starts no server."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return {**clean, "NANWATCH_DATA_DIR": str(data), "NANWATCH_AUTOSTART": "0", **env}


def python(
    code: str, data: Path, *, before: tuple[str, ...] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run code as a script of its own; `before` is put in front of the command."""
    return subprocess.run(
        [*before, sys.executable, "-c", TRAIN + textwrap.dedent(code)],
        env=environment(data, **env),
        capture_output=True,
        text=True,
        timeout=120,
    )


def logged(data: Path) -> list[float]:
    """Values of `run.log(v=…)` that a process left on the disk."""
    found: list[float] = []
    for path in sorted(data.glob("spool/*/scalars-*.seg")):
        for kind, _, _, payload in scan(path):
            frame = decode_client(payload) if kind == BATCH else None
            if isinstance(frame, Batch):
                for record in frame.records:
                    if isinstance(record, Table) and len(record.ids) == 1:
                        found += array("d", record.values)
    return found
