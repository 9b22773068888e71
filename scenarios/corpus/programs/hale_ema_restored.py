"""A score net for points on two spirals (denoising at many noise levels) is evaluated with
averaged weights that were begun at random and lag far behind: the first held-out losses hardly
fall while the loss of training does; both end low.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 64, "steps": 900, "decay": 0.995, "every": 25}


class Average:
    """Exponential moving average of the weights, to evaluate with."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: one.detach().clone() for name, one in model.named_parameters()}
        self.backup: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, one in model.named_parameters():
            self.shadow[name].lerp_(one, 1 - self.decay)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        for name, one in model.named_parameters():
            self.backup[name] = one.clone()
            one.copy_(self.shadow[name])

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        for name, one in model.named_parameters():
            one.copy_(self.backup[name])


def spirals(rows: int) -> torch.Tensor:
    """Two arms."""
    far = 0.3 + 1.7 * torch.rand(rows).sqrt()
    angle = 2.5 * far + 3.1416 * torch.randint(0, 2, (rows,))
    return torch.stack([far * angle.cos(), far * angle.sin()], dim=1)


def denoise(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    level = torch.exp(-3 + 3 * torch.rand(len(x), 1))
    noise = torch.randn_like(x)
    return F.mse_loss(model(torch.cat([x + level * noise, level.log()], dim=1)), noise)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    model = nn.Sequential(
        nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    average = Average(model, CONFIG["decay"])
    run = nanwatch.init(project="corpus", name="spiral-scores", config=config)
    for step in range(CONFIG["steps"]):
        loss = denoise(model, spirals(CONFIG["batch_size"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
        if step % CONFIG["every"] == 0:
            average.apply(model)
            with torch.no_grad():
                run.log(loss=denoise(model, spirals(512)), stage="val")
            average.restore(model)
    run.finish()
