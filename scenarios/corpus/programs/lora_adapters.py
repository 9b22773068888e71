"""Low-rank adapters on a frozen net that has shifted by a small matrix: one half of each adapter
starts at zero, so its gradient and the other half's are zero or tiny at first."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "rank": 2, "alpha": 4.0, "batch_size": 32, "steps": 900}


class Adapted(nn.Module):
    """A frozen linear layer plus a low-rank change."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, CONFIG["rank"], bias=False)
        self.up = nn.Linear(CONFIG["rank"], base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + CONFIG["alpha"] / CONFIG["rank"] * self.up(self.down(x))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="lora", config=config)
    layers = [nn.Linear(12, width), nn.Linear(width, width), nn.Linear(width, 5)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=1.6)
    moved = []
    with torch.no_grad():
        for layer in layers:
            shift = torch.randn(layer.out_features, 1) @ torch.randn(1, layer.in_features)
            moved.append(layer.weight + 0.12 * shift)
    model = nn.Sequential(
        Adapted(layers[0]), nn.Tanh(), Adapted(layers[1]), nn.Tanh(), Adapted(layers[2])
    )

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 12)
        h = torch.tanh(F.linear(x, moved[0], layers[0].bias))
        h = torch.tanh(F.linear(h, moved[1], layers[1].bias))
        return x, F.linear(h, moved[2], layers[2].bias)

    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    for step in range(CONFIG["steps"]):
        x, y = batch(CONFIG["batch_size"])
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 150 == 149:
            x, y = batch(500)
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(x), y), stage="val")
    run.finish()
