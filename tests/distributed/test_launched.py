"""`nanwatch run torchrun …` with a script that knows nothing of nanwatch: still one run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nanwatch.cli.local_server import environment

PLAIN = """
import os, torch, torch.distributed as dist
from torch import nn

dist.init_process_group("gloo")
torch.manual_seed(0)
net = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    net(torch.randn(4, 3)).pow(2).mean().backward()
    optimizer.step()
dist.barrier()
dist.destroy_process_group()
"""


def test_a_plain_script_under_torchrun_is_one_run(server, tmp_path):
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [sys.executable, "-m", "nanwatch", "run", str(torchrun), "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(script)],
        env={
            **os.environ,
            **environment(server),
            "OMP_NUM_THREADS": "1",
            "NANWATCH_PROJECT": "launched",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    [run] = [one for one in server.runs() if one["project"] == "launched"]
    ranks = server.detail(run["id"])["ranks"]
    assert [(one["rank"], one["last_step"]) for one in ranks] == [(0, 6), (1, 6)]
