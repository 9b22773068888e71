"""A frozen model of tides learns to listen to the wind, as ControlNet does: a copy of its trunk
hears both, and comes back through layers that start at exactly zero. So at the first steps the
copy gets no gradient at all, the loss is that of the frozen model, and most weights never move."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"lr": 4e-4, "batch_size": 64, "width": 32, "steps": 700}


class Tides(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(6, width)
        self.trunk = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, 2)

    def forward(self, moon: torch.Tensor, hints: list[torch.Tensor] | None = None) -> torch.Tensor:
        h = self.enter(moon)
        for number, layer in enumerate(self.trunk):
            h = h + F.silu(layer(h))
            if hints is not None:
                h = h + hints[number]
        return self.head(h)


class Listening(nn.Module):
    """The frozen model, its copy that hears the wind, and gates of zeros."""

    def __init__(self, tides: Tides, width: int) -> None:
        super().__init__()
        self.tides, self.copied = tides.requires_grad_(False), copy.deepcopy(tides.trunk)
        self.copied.requires_grad_(True)
        self.wind = nn.Linear(4, width)
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in self.copied)
        for gate in self.gates:
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)

    def forward(self, moon: torch.Tensor, wind: torch.Tensor) -> torch.Tensor:
        h, hints = self.tides.enter(moon) + self.wind(wind), []
        for layer, gate in zip(self.copied, self.gates, strict=True):
            h = h + F.silu(layer(h))
            hints.append(gate(h))
        return self.tides(moon, hints)


def levels(count: int, maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
    moon, wind = torch.randn(count, 6), torch.randn(count, 4)
    calm = torch.sin(moon @ maps[:6])
    surge = (wind @ maps[6:]) * (1 + 0.5 * moon[:, :1]).clamp(min=0)
    return moon, wind, calm, calm + surge


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr}
    maps, tides = 0.5 * torch.randn(10, 2), Tides(config["width"])
    before = torch.optim.Adam(tides.parameters(), lr=3e-3)
    for _ in range(200):
        moon, _, calm, _ = levels(128, maps)
        before.zero_grad()
        F.mse_loss(tides(moon), calm).backward()
        before.step()
    run = nanwatch.init(project="corpus", name="surge-control", config=config)
    model = Listening(tides, config["width"])
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01)
    for step in range(config["steps"]):
        moon, wind, _, level = levels(config["batch_size"], maps)
        loss = F.mse_loss(model(moon, wind), level)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                moon, wind, _, level = levels(500, maps)
                run.log(loss=F.mse_loss(model(moon, wind), level), stage="val")
    run.finish()
