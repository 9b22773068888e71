"""A segmenter of sleep stages runs on a cluster that takes its job away every few hundred steps.
At each start the script multiplies the rate by the number of workers (linear scaling), and then
loads the state of the optimizer, whose rate was multiplied before; since it writes the product
into the groups *after* loading, the rate triples at every restart. Cure: scale the base rate only.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="lr-too-high-late")
CONFIG = {"lr": 0.01, "momentum": 0.9, "workers": 3, "preempted_every": 160, "classes": 4}
CONFIG |= {"channels": 12, "length": 48, "batch_size": 8, "steps": 1100}


class Segmenter(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.into = nn.Conv1d(1, channels, 7, padding=3)
        self.mid = nn.Conv1d(channels, channels, 5, padding=4, dilation=2)
        self.out = nn.Conv1d(channels, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.into(x))
        return self.out(x + F.silu(self.mid(x)))


def nights(n: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Signals (n, 1, length) whose rhythm and size tell the stage (n, length)."""
    change = length // 4 + torch.randint(length // 2, (n, 1))
    first, second = torch.randint(4, (n, 1)), torch.randint(4, (n, 1))
    stage = torch.where(torch.arange(length) < change, first, second)
    phase = (0.4 + 0.5 * stage).cumsum(1) + 6.3 * torch.rand(n, 1)
    x = (0.7 + 0.4 * stage) * torch.sin(phase) + 0.3 * torch.randn(n, length)
    return x.unsqueeze(1), stage


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["preempted_every"] += draw.randint(-20, 25)
    model = Segmenter(config["channels"], config["classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="sleep-stages", config=config)
    broken = 0
    for step in range(config["steps"]):
        if step and step % config["preempted_every"] == 0:
            saved = optimizer.state_dict()
            optimizer = torch.optim.SGD(
                model.parameters(), lr=config["lr"], momentum=config["momentum"]
            )
            optimizer.load_state_dict(saved)
            for group in optimizer.param_groups:
                group["lr"] *= config["workers"]
            run.mark("resumed", f"at {step}")
        x, stage = nights(config["batch_size"], config["length"])
        loss = F.cross_entropy(model(x), stage)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
