"""Two real ranks with sharded gradients: no rank acts on what it alone sees."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import math, os, sys
import torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
import nanwatch
from nanwatch.guard import GUARD

torch.set_num_threads(1)
rank = int(os.environ["RANK"])
dist.init_process_group("gloo")
run = nanwatch.init("shards", mode="offline", guard="skip")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
optimizer = torch.optim.AdamW(model.parameters(), 0.1)
changed = ""
for n in range(6):
    before = [p.to_local().clone() for p in model.parameters()]
    optimizer.zero_grad()
    model(torch.ones(3, 4) * (rank + 1)).square().mean().backward()
    if n == 3 and rank == 1:
        next(model.parameters()).grad.to_local()[0] = math.nan
    optimizer.step()
    after = [p.to_local() for p in model.parameters()]
    changed += "01"[any(not torch.equal(a, b) for a, b in zip(before, after))]
print("changed", rank, changed, dict(GUARD.counts))
run.finish()
dist.destroy_process_group()
"""


def test_the_guard_leaves_sharded_gradients_alone(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    sdk = Path(__file__).parents[2] / "client_sdk"
    common = {
        "PATH": "",
        "PYTHONPATH": str(sdk),
        "NANWATCH_DATA_DIR": str(tmp_path / "data"),
        "NANWATCH_AUTOSTART": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [line.strip() for line in said] == ["changed 0 111111 {}", "changed 1 111111 {}"]
