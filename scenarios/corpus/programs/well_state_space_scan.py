"""A diagonal state-space layer with complex decays, run as a convolution over 64 steps, counts up
to four pulses; decays have a rate of their own that is ten times smaller."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = {"lr": 1e-2, "state_lr": 1e-3, "batch_size": 24, "length": 64, "state": 8,
          "weight_decay": 0.01, "classes": 5, "steps": 450}  # fmt: skip


class Scan(nn.Module):
    """y = Re(C x) with x' = exp(dt A) x + B u for every channel, by the FFT."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.full((width, state), math.log(0.5)))
        self.turn = nn.Parameter(math.pi * torch.arange(state).float().repeat(width, 1))
        self.log_dt = nn.Parameter(torch.empty(width, 1).uniform_(math.log(0.005), math.log(0.1)))
        self.out = nn.Parameter(torch.randn(width, state, 2) / state**0.5)
        self.skip = nn.Parameter(torch.ones(width))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """float32[batch, width, length] to the same."""
        length = u.shape[2]
        power = self.log_dt.exp() * torch.complex(-self.log_decay.exp(), self.turn)
        gain = torch.view_as_complex(self.out) * (power.exp() - 1) / power * self.log_dt.exp() ** -1
        kernel = (gain[..., None] * (power[..., None] * torch.arange(length)).exp()).sum(1).real
        seen = torch.fft.rfft(u, 2 * length) * torch.fft.rfft(kernel, 2 * length)
        return torch.fft.irfft(seen, 2 * length)[..., :length] + self.skip[:, None] * u


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.scan = nn.Linear(1, width), Scan(width, CONFIG["state"])
        self.mix, self.norm = nn.Linear(width, 2 * width), nn.LayerNorm(width)
        self.head = nn.Linear(width, CONFIG["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.enter(x[..., None])
        seen = F.gelu(self.scan(h.transpose(1, 2)).transpose(1, 2))
        return self.head(self.norm(h + F.glu(self.mix(seen), dim=2))[:, -1])


def pulses(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    number = torch.randint(0, CONFIG["classes"], (count, 1))
    order = torch.rand(count, CONFIG["length"]).argsort(1).argsort(1)
    hit = (order < number).float()
    return hit + 0.02 * torch.randn_like(hit), number[:, 0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="state-space", config=config)
    model = Model(width)
    slow = [model.scan.log_decay, model.scan.turn, model.scan.log_dt]
    rest = [p for p in model.parameters() if not any(p is one for one in slow)]
    optimizer = torch.optim.AdamW(
        [
            {"params": rest, "weight_decay": CONFIG["weight_decay"]},
            {"params": slow, "lr": CONFIG["state_lr"], "weight_decay": 0.0},
        ],
        lr=lr,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    for step in range(CONFIG["steps"]):
        x, number = pulses(CONFIG["batch_size"])
        loss = F.cross_entropy(model(x), number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 90 == 89:
            with torch.no_grad():
                x, number = pulses(200)
                right = model(x).argmax(1) == number
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
