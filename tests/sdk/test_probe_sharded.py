"""Sharded weights (FSDP2) of two real processes: each rank tells of its own part, without a word
to the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RANK = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from nanwatch.config import resolve
from nanwatch.guard import GUARD, Guard
from nanwatch.probes.overhead import Cadence
from nanwatch.run import Run
from sdk.watched import Watched

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
Guard.reraise = True
Cadence.due = lambda cadence, *of: True
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
fully_shard(net)
options = dict(project="p", name=None, config=None, control=None, server=None, token=None)
run = Run(resolve(**options, mode="offline", run_id="0" * 32), "0" * 32)
run.hooks.install()
optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
ratios = []
for n in range(4):
    optimizer.zero_grad()
    net(torch.randn(8, 5)).square().mean().backward()
    before = [p.to_local().detach().clone() for p in net[0].parameters()]
    if rank == 0 or n < 2:  # the other rank measures nothing from here on: nobody waits for it
        run.observer.enabled = True
    else:
        run.observer.enabled = False
    optimizer.step()
    moved = [p.to_local().detach() - old for p, old in zip(net[0].parameters(), before)]
    size = lambda found: float(sum(t.square().sum() for t in found)) ** 0.5
    ratios.append(size(moved) / size(before))
run.observer.enabled = True
seen = Watched(run).read()
found = seen.values("update_ratio_layer", "", "0")
want = ratios if rank == 0 else ratios[:2]
assert len(found) == len(want), (found, want)
assert all(abs(a - b) < 1e-5 for a, b in zip(found, want)), (found, want)
assert not any(key[0] in ("param_norm", "update_norm", "moment_norm") for key in seen.points)
assert len(seen.values("adam_rms")) == len(want) - 1
assert "this rank's shards" in run.observer.probes.coverage()["weight updates"]
assert not GUARD.counts
print("seen", len(found))
run.hooks.remove()
dist.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file store")
def test_ratios_of_this_ranks_shards(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=120) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], told
    assert [out.split()[-1] for out, _ in told] == ["4", "2"]
