"""Incident 000: a GRU "energy carrier" trained without gradient clipping.

A carrier walks through the plane: at each of 60 steps a GRU reads the (sine-embedded) position
and proposes a displacement, and the new position is fed back.  The displacement scale rises
over training, as in the report, and the recurrent weights start too large, so the Jacobian of
the loop, multiplied 60 times, reaches further and further: now and then a batch comes with a
gradient 10, then 100, then 1000 times the usual.  Nothing clips it, each such step throws the
weights into a more chaotic region, and at last one step sends the positions out of range: the
backward pass returns NaN, and the anomaly mode that the trainer arms on large gradients raises
(on a GPU: `Function 'CudnnRnnBackward0' returned nan values in its 0th output`).

The cure (`--healthy`): orthogonal recurrent weights, zero biases, and clipping at norm 10.
"""

from __future__ import annotations

import argparse
import math
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
    steps: int = 1200
    lr: float = 2.5e-4
    momentum: float = 0.9
    max_gradient_norm: float | None = None
    orthogonal_init: bool = False
    init_gain: float = 2.0
    scale_start: float = 0.02
    scale_end: float = 2.0
    scale_steps: int = 1500
    timesteps: int = 60
    frequencies: int = 4
    batch_size: int = 32
    hidden: int = 32
    gradient_anomaly_threshold: float = 1000.0
    gradient_anomaly_steps: int = 50
    log_every: int = 50
    steps_per_second: float = 0.0


class EnergyCarrier(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("freqs", 2.0 ** torch.arange(config.frequencies))
        self.gru = nn.GRUCell(4 * config.frequencies + 3, config.hidden)
        self.displacement_projection = nn.Linear(config.hidden, 2)
        for name, param in self.gru.named_parameters():
            if not config.orthogonal_init and "weight" in name:
                nn.init.normal_(param, std=config.init_gain / math.sqrt(config.hidden))
            elif config.orthogonal_init and "weight" in name:
                nn.init.orthogonal_(param)
            elif config.orthogonal_init:
                nn.init.zeros_(param)

    def displacement_scale(self, global_training_step: int) -> float:
        cfg = self.config
        progress = min(1.0, global_training_step / cfg.scale_steps)
        return cfg.scale_start + (cfg.scale_end - cfg.scale_start) * progress

    def forward(
        self, position: torch.Tensor, goal: torch.Tensor, energy: torch.Tensor, step: int
    ) -> torch.Tensor:
        """The path of positions, (batch, timesteps, 2)."""
        scale = self.displacement_scale(step)
        hidden = position.new_zeros(len(position), self.config.hidden)
        path = []
        for _ in range(self.config.timesteps):
            phase = (position.unsqueeze(2) * self.freqs).flatten(1)
            embedding = torch.cat([torch.sin(phase), torch.cos(phase), goal, energy], dim=1)
            hidden = self.gru(embedding, hidden)
            position = position + scale * self.displacement_projection(hidden)
            energy = energy * 0.98
            path.append(position)
        return torch.stack(path, dim=1)


def make_batch(config: Config) -> tuple[torch.Tensor, ...]:
    """Starts, goals, energies, and the spiral each carrier should follow to its goal."""
    start = torch.rand(config.batch_size, 2) * 2 - 1
    goal = torch.rand(config.batch_size, 2) * 2 - 1
    energy = torch.rand(config.batch_size, 1) + 0.5
    t = torch.arange(1, config.timesteps + 1).view(1, -1) / config.timesteps
    angle = 6.0 * energy * t
    dx, dy = (start - goal).unsqueeze(1).unbind(-1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    spiral = torch.stack([cos * dx - sin * dy, sin * dx + cos * dy], dim=-1)
    return start, goal, energy, goal.unsqueeze(1) + (1 - t).unsqueeze(-1) * spiral


def check_gradients(model: nn.Module) -> float:
    grads = [p.grad.norm(2) for p in model.parameters() if p.grad is not None]
    return float(torch.stack(grads).square().sum().sqrt())


def train(config: Config) -> None:
    torch.manual_seed(config.seed)
    model = EnergyCarrier(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    nanwatch.init(
        project="gru",
        config=asdict(config),
        control=nanwatch.Control(lr=(1e-8, 1e-2), checkpoint=True, stop=True),
    )
    anomaly_steps_remaining = 0
    losses: list[float] = []
    for step in range(config.steps):
        began = time.monotonic()
        start, goal, energy, path = make_batch(config)
        with torch.autograd.set_detect_anomaly(anomaly_steps_remaining > 0):
            loss = F.mse_loss(model(start, goal, energy, step), path)
            optimizer.zero_grad()
            loss.backward()
        anomaly_steps_remaining = max(0, anomaly_steps_remaining - 1)
        grad_norm = check_gradients(model)
        if not grad_norm <= config.gradient_anomaly_threshold:
            print(f"Large gradient norm detected: {grad_norm:.4g} at step {step}", flush=True)
            anomaly_steps_remaining = config.gradient_anomaly_steps
        if config.max_gradient_norm is not None:
            clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        losses.append(loss.item())
        if step % config.log_every == 0 or step == config.steps - 1:
            recent = losses[-config.log_every :]
            print(
                f"step {step} loss {sum(recent) / len(recent):.4g} grad_norm {grad_norm:.3g}",
                flush=True,
            )
        pace(config.steps_per_second, began)


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
        args |= {"orthogonal_init": True, "max_gradient_norm": 10.0}
    return Config(**args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(parse_args())
