"""An FSDP2 training on two ranks that counts every word between them; `forked` starts it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

import nanwatch
from nanwatch.run import Run


class Talk(TorchDispatchMode):
    """Counts every operation that speaks to another rank."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if DTensor in types:
            return NotImplemented
        if "c10d" in func.namespace:
            self.counts[str(func)] = self.counts.get(str(func), 0) + 1
        return func(*args, **(kwargs or {}))


def main(rank: int, world: int, arguments: list[str]) -> None:
    """`talking MODE FOLDER`: each rank leaves its counts in the folder."""
    torch.set_num_threads(1)
    run = nanwatch.init(mode=arguments[1], guard="skip")
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.BatchNorm1d(3))
    mesh = init_device_mesh("cpu", (world,))
    fully_shard(net[0], mesh=mesh)
    fully_shard(net, mesh=mesh)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    if isinstance(run, Run):
        # Ranks that can afford different cadences: 3 is 4 at the common steps, 1 is every one.
        cadence = run.observer.cadence
        cadence.spent = lambda seconds: None
        cadence.every = 1 if rank == 0 else 3
        run.observer.overhead.cap = 1.0
    with Talk() as talk:
        for step in range(12):
            optimizer.zero_grad()
            loss = net(torch.randn(4, 5)).pow(2).mean()
            loss.backward()
            if rank == 1:
                # What is spread over ranks: reading it would be a question to the other one.
                norm = torch.linalg.vector_norm(next(net.parameters()).grad)
                run.log(only_here=step, weights=next(net.parameters()), norm=norm)
            if step % 4 == 3:
                nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
    run.finish()
    Path(arguments[2], f"{rank}.json").write_text(json.dumps(talk.counts))
    dist.barrier()
    dist.destroy_process_group()
