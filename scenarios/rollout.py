"""Incident 003: a neural operator rolled out for 256 steps and backpropagated through all.

A small operator advances a one-dimensional field by one step; it is fed its own output 256
times, and the loss is taken over the whole trajectory.  The gradient of the last step reaches
the first through 256 Jacobians.  While they contract a little, all is well; as soon as
training makes them expand a little (1.1 per step is 1e10 over 256 steps) the gradient grows
without bound, and clipping at 1.0 turns it into a unit step in a direction that is noise.
Those steps push the operator further out, until the gradients are infinite in every batch:
the loop's own check then skips every update for ever, while training appears to go on.

The cure (`--healthy`): truncated backpropagation, a window of 32 steps.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch


@dataclass
class Config:
    seed: int = 0
    steps: int = 900
    timesteps: int = 256
    bptt_window: int | None = None
    lr: float = 6e-3
    warmup_steps: int = 500
    max_grad_norm: float = 1.0
    batch_size: int = 4
    grid: int = 16
    hidden: int = 64
    omega: float = 3.0
    n_samples: int = 256
    log_every: int = 25
    steps_per_second: float = 0.0


def simulate(n_samples: int, timesteps: int, grid: int) -> torch.Tensor:
    """Three dispersive waves on a ring: (samples, timesteps + 1, grid)."""
    x = torch.arange(grid) * (2 * torch.pi / grid)
    k = torch.arange(1, 4).view(1, 1, 3, 1)
    amplitude = (torch.rand(n_samples, 1, 3, 1) + 0.5) / k
    phase = torch.rand(n_samples, 1, 3, 1) * 2 * torch.pi
    t = torch.arange(timesteps + 1).view(1, -1, 1, 1)
    return (amplitude * torch.sin(k * x - 0.1 * k.sqrt() * t + phase)).sum(2)


class NeuralOperator(nn.Module):
    """u_{t+1} = u_t + g(u_t), with sine features (SIREN), so that g never saturates."""

    def __init__(self, grid: int, hidden: int, omega: float) -> None:
        super().__init__()
        self.features = nn.Linear(grid, hidden)
        self.project = nn.Linear(hidden, grid)
        with torch.no_grad():
            self.features.weight.mul_(omega)
            self.features.bias.mul_(omega)
            self.project.weight.mul_(0.01)
            self.project.bias.zero_()

    def single_step(self, u: torch.Tensor) -> torch.Tensor:
        return u + self.project(torch.sin(self.features(u)))

    def forward(self, target: torch.Tensor, bptt_window: int | None) -> torch.Tensor:
        """Roll out from target[:, 0]; with a window, restart from the data after each one."""
        steps = target.shape[1] - 1
        window = steps if bptt_window is None else bptt_window
        u, trajectory = target[:, 0], []
        for t in range(steps):
            if t % window == 0:
                u = target[:, t]
            u = self.single_step(u)
            trajectory.append(u)
        return torch.stack(trajectory, dim=1)


def has_bad_gradient(noa: nn.Module) -> bool:
    """Check for NaN or Inf in the gradients (prevents weight corruption).

    Asks the norm, which is one number: in float32 it is Inf from entries of about 1e19 on.
    """
    for param in noa.parameters():
        if param.grad is not None and not torch.isfinite(param.grad.norm()):
            return True
    return False


def train(config: Config) -> None:
    torch.manual_seed(config.seed)
    data = simulate(config.n_samples, config.timesteps, config.grid)
    noa = NeuralOperator(config.grid, config.hidden, config.omega)
    optimizer = torch.optim.Adam(noa.parameters(), lr=config.lr)
    scheduler = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1 / config.warmup_steps, total_iters=config.warmup_steps
    )
    nanwatch.init(
        project="rollout",
        config=asdict(config),
        control=nanwatch.Control(lr=(1e-8, 1e-2), checkpoint=True, stop=True),
    )
    for batch_idx in range(config.steps):
        began = time.monotonic()
        batch = data[torch.randint(0, config.n_samples, (config.batch_size,))]
        loss = F.mse_loss(noa(batch, config.bptt_window), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()

        if has_bad_gradient(noa):
            print(f"Warning: NaN/Inf gradients at batch {batch_idx}, skipping update", flush=True)
            optimizer.zero_grad()  # clear corrupted gradients
            pace(config.steps_per_second, began)
            continue

        norm = clip_grad_norm_(noa.parameters(), config.max_grad_norm)
        optimizer.step()
        scheduler.step()
        if batch_idx % config.log_every == 0 or batch_idx == config.steps - 1:
            print(f"batch {batch_idx} loss {loss.item():.5g} grad_norm {norm:.3g}", flush=True)
        pace(config.steps_per_second, began)
    print("training complete", flush=True)


def pace(steps_per_second: float, began: float) -> None:
    """Sleep for what is left of this step, so that a person can watch."""
    if steps_per_second > 0:
        time.sleep(max(0.0, 1.0 / steps_per_second - (time.monotonic() - began)))


def parse_args() -> Config:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--steps", type=int, default=Config.steps)
    parser.add_argument("--steps-per-second", type=float, default=Config.steps_per_second)
    parser.add_argument("--healthy", action="store_true", help="the cure of the report")
    args = vars(parser.parse_args())
    if args.pop("healthy"):
        args["bptt_window"] = 32
    return Config(**args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(parse_args())
