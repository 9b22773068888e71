"""Incident 001: a selective state-space model (S6, Mamba) in a k-fold loop, without clipping.

The Ishigami function along smooth paths is learned as a sequence: its running mean, in
physical units.  The model starts close to zero, and while its factors (input, B, C, gate,
readout) find each other, the gradient of each grows with the size of the others: slowly at
first, then ever faster.  Nothing limits the step, and the learning rate suits the model at the
start only: with the factors the loss surface gets steep, the steps overshoot and the loss
jumps by decades.  A is a plain weight that nothing keeps below zero, so the state overflows
once a step has thrown it there; the gradient is NaN and so is every weight.

The folds are taken in the order of the file, whose first third covers the whole domain and the
rest only its middle.  Fold 1 holds that third out, trains on the calm rest, and works; the next
folds train on it ("First k-fold on Ishigami worked, then NaN appeared").

The cure (`--healthy`): clipping at 1.0, warm-up, standardised targets and the usual size of
initial weights.  Learning rates of different target
scales do not compare: 3e-3 at scale 1 moves the model far less than 1e-3 at scale 20.
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
    steps: int = 1350
    folds: int = 3
    lr: float = 1e-3
    momentum: float = 0.9
    warmup_steps: int = 1
    max_grad_norm: float | None = None
    init_scale: float = 0.003
    target_std: float = 20.0
    batch_size: int = 32
    sequence: int = 32
    d_model: int = 8
    d_state: int = 4
    calm_reach: float = 0.2
    n_samples: int = 384
    log_every: int = 25
    steps_per_second: float = 0.0


def ishigami(x: torch.Tensor) -> torch.Tensor:
    x1, x2, x3 = x.unbind(-1)
    return x1.sin() + 7.0 * x2.sin().square() + 0.1 * x3.pow(4) * x1.sin()


def simulate(config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth paths through the domain, and the running mean of the response along each."""
    n = config.n_samples
    reach = torch.full((n, 1, 1), config.calm_reach * math.pi)
    reach[: n // 3] = math.pi
    phase = torch.rand(n, 1, 3) * 2.0 * math.pi
    speed = torch.rand(n, 1, 3) * 0.2 + 0.05
    x = reach * torch.sin(speed * torch.arange(config.sequence).view(1, -1, 1) + phase)
    y = ishigami(x).cumsum(1) / torch.arange(1, config.sequence + 1)
    return x, (y - y.mean()) / y.std() * config.target_std


class S6(nn.Module):
    """Selective scan: h = exp(delta A) h + delta B x, y = C h + D x; gate and readout."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, n = config.d_model, config.d_state
        self.in_proj = nn.Linear(3, 2 * d)
        self.dt_proj = nn.Linear(d, d)
        self.bc_proj = nn.Linear(d, 2 * n, bias=False)
        self.a = nn.Parameter(-torch.arange(1.0, n + 1.0).repeat(d, 1) / n)
        self.d = nn.Parameter(torch.ones(d))
        self.out_proj = nn.Linear(d, 1)
        with torch.no_grad():
            self.dt_proj.bias.fill_(math.log(math.expm1(0.1)))
            self.in_proj.weight.mul_(config.init_scale)
            self.in_proj.bias[:d].mul_(config.init_scale)
            self.in_proj.bias[d:].fill_(1.0)
            self.out_proj.weight.mul_(config.init_scale)
            self.out_proj.bias.zero_()

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        x = F.silu(x)
        delta = F.softplus(self.dt_proj(x))
        b, c = self.bc_proj(x).chunk(2, dim=-1)
        decay = torch.exp(delta[..., None] * self.a)
        drive = (delta * x)[..., None] * b[:, :, None]
        h, states = torch.zeros_like(drive[:, 0]), []
        for decay_t, drive_t in zip(decay.unbind(1), drive.unbind(1), strict=True):
            h = decay_t * h + drive_t
            states.append(h)
        y = (torch.stack(states, dim=1) * c[:, :, None]).sum(-1) + self.d * x
        return self.out_proj(y * F.silu(gate)).squeeze(-1)


def train_fold(config: Config, fold: int, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """A new model and a new optimizer, on everything but the fold-th part of the file."""
    x, y = data
    part = torch.arange(len(x)) * config.folds // len(x)
    train, held_out = (part != fold).nonzero()[:, 0], (part == fold).nonzero()[:, 0]
    model = S6(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    scheduler = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1 / config.warmup_steps, total_iters=config.warmup_steps
    )
    steps = config.steps // config.folds
    for step in range(1, steps + 1):
        began = time.monotonic()
        batch = train[torch.randint(len(train), (config.batch_size,))]
        loss = F.mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        if config.max_grad_norm is not None:
            clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        scheduler.step()
        if step == 1 or step % config.log_every == 0 or step == steps:
            print(f"fold {fold + 1} step {step} loss {loss.item():.5g}", flush=True)
        pace(config.steps_per_second, began)
    with torch.no_grad():
        error = F.mse_loss(model(x[held_out]), y[held_out])
    print(f"fold {fold + 1} held out {error.item():.5g}", flush=True)


def train(config: Config) -> None:
    torch.manual_seed(config.seed)
    data = simulate(config)
    nanwatch.init(
        project="ssm",
        config=asdict(config),
        control=nanwatch.Control(lr=(1e-8, 1.0), checkpoint=True, stop=True),
    )
    for fold in range(config.folds):
        train_fold(config, fold, data)
    print("training complete", flush=True)


def pace(steps_per_second: float, began: float) -> None:
    """Sleep for what is left of this step, so that a person can watch."""
    if steps_per_second > 0:
        time.sleep(max(0.0, 1.0 / steps_per_second - (time.monotonic() - began)))


def parse_args() -> Config:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--steps", type=int, default=Config.steps, help="of all folds together")
    parser.add_argument("--steps-per-second", type=float, default=Config.steps_per_second)
    parser.add_argument("--healthy", action="store_true", help="the cure of the report")
    args = vars(parser.parse_args())
    if args.pop("healthy"):
        args |= {"max_grad_norm": 1.0, "lr": 3e-3, "warmup_steps": 100}
        args |= {"target_std": 1.0, "init_scale": 1.0}
    return Config(**args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(parse_args())
