"""Low-rank adapters on a frozen translator of dialects, merged into the frozen weights after every
stretch of steps (as in ReLoRA). After a merge the adapters keep their values instead of starting
again from zero: each merge adds the same correction once more, and what was learned overshoots.
Cure: reset the adapters and the optimizer after a merge.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 2e-3, "rank": 4, "alpha": 8.0, "merge_every": 80, "batch_size": 48, "steps": 960}
CONFIG |= {"features": 16, "width": 32, "pretrain_steps": 300, "decay": 0.5}


class Adapted(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down = nn.Parameter(torch.randn(CONFIG["rank"], inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, CONFIG["rank"]))
        self.gain = CONFIG["alpha"] / CONFIG["rank"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.gain * (x @ self.down.T) @ self.up.T

    @torch.no_grad()
    def merge(self) -> None:
        self.base.weight.add_(self.gain * self.up @ self.down)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, shift = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.5, 0.9)
    config = CONFIG | {"seed": seed, "lr": lr, "shift": shift}
    features, width = CONFIG["features"], CONFIG["width"]
    old = torch.randn(features, features) / features**0.5
    new = old + shift * torch.randn(features, 3) @ torch.randn(3, features) / features**0.5
    layers = nn.ModuleList([Adapted(features, width), Adapted(width, width)])
    layers.append(Adapted(width, features))
    net = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
    optimizer = torch.optim.Adam([p for one in layers for p in one.base.parameters()], lr=4e-3)
    for _ in range(CONFIG["pretrain_steps"]):  # pretraining is another script in real life
        x = torch.randn(64, features)
        optimizer.zero_grad()
        F.mse_loss(net(x), torch.tanh(x @ old)).backward()
        optimizer.step()
    for one in layers:
        one.base.requires_grad_(False)
    adapters = [weight for one in layers for weight in (one.down, one.up)]
    optimizer = torch.optim.AdamW(adapters, lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, CONFIG["merge_every"], CONFIG["decay"])
    run = nanwatch.init(project="corpus", name="dialects-relora", config=config)
    for step in range(CONFIG["steps"]):
        x = torch.randn(CONFIG["batch_size"], features)
        loss = F.mse_loss(net(x), torch.tanh(x @ new))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % CONFIG["merge_every"] == 0:
            for one in layers:
                one.merge()
    run.finish()
