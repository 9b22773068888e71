"""A WaveNet-like net removes hum from recordings. Before the training a learning-rate finder was
run, which multiplies the rate by 1.02 after every batch; weights were put back afterwards, and the
rate, too, but its scheduler is still stepped in the training loop. For some hundred steps a growing
rate is a blessing, then it is ten and a hundred times too high. Cure: drop the finder's
scheduler."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"lr": 3e-4, "batch_size": 16, "steps": 520, "gamma": 1.018, "width": 16, "length": 128}


class Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.both = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.both(x).chunk(2, 1)
        return x + self.out(a.tanh() * b.sigmoid())


def recordings(count: int, length: int, hum: float) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.arange(length).float()
    pitch = 0.05 + 0.2 * torch.rand(count, 3, 1)
    clean = ((t * pitch + 6.3 * torch.rand(count, 3, 1)).sin() * torch.rand(count, 3, 1)).sum(1)
    mains = hum * (t * 0.61 + 6.3 * torch.rand(count, 1)).sin()
    return (clean + mains + 0.1 * torch.randn(count, length)).unsqueeze(1), clean.unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, hum = config["width"], draw.uniform(0.5, 1.2)
    model = nn.Sequential(
        nn.Conv1d(1, width, 3, padding=1), *[Residual(width, 2**i) for i in range(4)],
        nn.ReLU(), nn.Conv1d(width, 1, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    finder = torch.optim.lr_scheduler.ExponentialLR(optimizer, config["gamma"])
    run = nanwatch.init(project="corpus", name="hum-removal", config=config)
    for _ in range(config["steps"]):
        noisy, clean = recordings(config["batch_size"], config["length"], hum)
        loss = F.mse_loss(model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        finder.step()
    run.finish()
