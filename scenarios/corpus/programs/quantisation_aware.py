"""Quantisation-aware training: after half of the run weights and activations are rounded to four
bits in the forward pass; the loss jumps up, and most of the loss is learned back."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="compression", sick=False, seeds=7)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 32, "bits": 4, "float_steps": 400}
STEPS = 900


def rounded(x: torch.Tensor, bits: int) -> torch.Tensor:
    """`x` on a grid of 2^bits - 1 values, with the gradient of the identity."""
    most = 2 ** (bits - 1) - 1
    scale = x.detach().abs().max().clamp(min=1e-8) / most
    return x + ((x / scale).round().clamp(-most, most) * scale - x).detach()


class Net(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 4)
        self.bits = 0

    def layer(self, module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if not self.bits:
            return module(x)
        return F.linear(rounded(x, self.bits), rounded(module.weight, self.bits), module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.layer(self.first, x))
        return self.layer(self.last, torch.relu(self.layer(self.second, h)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="quantisation-aware", config=config)
    teacher = torch.randn(12, 4)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 12)
        return x, (torch.tanh(x) @ teacher).argmax(1)

    model = Net(hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    for step in range(STEPS):
        if step == CONFIG["float_steps"]:
            model.bits = CONFIG["bits"]
            run.mark("note", "quantisation on")
            optimizer.param_groups[0]["lr"] = 0.2 * lr
        x, label = batch(CONFIG["batch_size"])
        loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            x, label = batch(500)
            with torch.no_grad():
                right = model(x).argmax(1) == label
            run.log(accuracy=right.float().mean(), bits=model.bits, stage="val")
    run.finish()
