"""A small training that one, two or four processes run; the tests start it.

The same global batch at every step, cut into equal parts: so every way of running it must give
the gradients of the single process. `--out` keeps what torch itself says of every attempt.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import nanwatch

ROWS = 8


def model() -> nn.Module:
    """Sizes that two and four ranks cannot share evenly, and a layer smaller than four ranks."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.LayerNorm(6), nn.Linear(6, 3)
    ).double()


def batch(step: int, rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's part of the batch of a step."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
    part = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    return x[part], y[part]


def wrapped(kind: str, net: nn.Module, world: int, options: argparse.Namespace) -> nn.Module:
    """The model as the script's user would distribute it."""
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(
            net, static_graph=options.static_graph, find_unused_parameters=options.find_unused
        )
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        shape = (2, world // 2) if options.replicate else (world,)
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("outer", "inner")[: len(shape)])
        for layer in (net[0], net[2], net[4]):  # type: ignore[index]
            fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh)
    return net


def full(tensor: Any) -> torch.Tensor:
    """All of a tensor. A collective: every rank calls it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def backward(net: nn.Module, x: torch.Tensor, y: torch.Tensor, options: argparse.Namespace) -> None:
    """One pass, or two of which only the second tells the other ranks."""
    if not options.accumulate:
        nn.functional.mse_loss(net(x), y).backward()
        return
    with net.no_sync():  # type: ignore[operator]
        (nn.functional.mse_loss(net(x), y) / 2).backward()
    (nn.functional.mse_loss(net(x), y) / 2).backward()


def store_of_life() -> Any:
    """After a restart by torchrun gloo may read addresses of the ranks that died: torch keeps
    them in the agent's store under the same names."""
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if life is None:
        return None
    port = int(os.environ["MASTER_PORT"])
    torch_distributed: Any = dist
    agent = torch_distributed.TCPStore(os.environ["MASTER_ADDR"], port, is_master=False)
    return torch_distributed.PrefixStore(f"life-{life}", agent)


def train(rank: int, world: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    run = nanwatch.init(
        mode="off" if options.off else None,
        control=nanwatch.Control(lr=(1e-6, 1.0), checkpoint=True, stop=True),
    )
    if world > 1:
        dist.init_process_group("gloo", store=store_of_life(), rank=rank, world_size=world)
    net = wrapped(options.kind, model(), world, options)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    seen: list[dict[str, Any]] = []
    died = bool(options.die_rank == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0")
    for step in range(1, options.steps + 1):
        x, y = batch(step, rank, world)
        if step == options.nan_step and rank == options.nan_rank:
            x = x * float("nan")
        optimizer.zero_grad()
        backward(net, x, y, options)
        if options.out and options.reference:
            named = [(name.removeprefix("module."), p.grad) for name, p in net.named_parameters()]
            norms = {name: float(torch.linalg.vector_norm(full(grad))) for name, grad in named}
            seen.append({"step": step, "norms": norms})
        if options.clip:
            nn.utils.clip_grad_norm_(net.parameters(), options.clip)
        optimizer.step()
        if options.uneven and rank == 0:
            run.log(only_here=float(step))
        if died and step == options.die_step:
            time.sleep(2)  # what it measured has reached the server
            os._exit(7)
        if options.pause:
            time.sleep(options.pause)
    weights = {name.removeprefix("module."): full(p).detach() for name, p in net.named_parameters()}
    if options.out and rank == 0:
        torch.save({"weights": weights, "seen": seen}, options.out)
    if options.linger:
        deadline = time.monotonic() + 60
        while not Path(options.linger).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    run.finish()
    if options.ids:
        Path(options.ids, f"{rank}-{os.getpid()}.json").write_text(
            json.dumps({"id": run.id, "rank": run.rank})
        )
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def main(rank: int, world: int, arguments: list[str] | None = None) -> None:
    """Train as one rank; it learns which from its launcher, or, forked, from these arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("single", "ddp", "fsdp"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--nan-rank", type=int, default=-1)
    parser.add_argument("--nan-step", type=int, default=-1)
    parser.add_argument("--die-rank", type=int, default=-1)
    parser.add_argument("--die-step", type=int, default=-1)
    parser.add_argument("--clip", type=float, default=0.0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--out", default="")
    parser.add_argument("--ids", default="")
    parser.add_argument("--linger", default="")
    for flag in ("off", "reference", "accumulate", "static-graph", "find-unused", "replicate"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--uneven", action="store_true")
    train(rank, world, parser.parse_args(arguments))


if __name__ == "__main__":
    main(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
