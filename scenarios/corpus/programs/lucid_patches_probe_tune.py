"""A small patch transformer is pretrained on ten kinds of plain textures; then come four kinds of
fabric with three hundred pictures: a new head, at first alone on a frozen body (linear probe),
then all of it with rates that fall by layer, warm-up and cosine, dropout, clipping at 1. Each
stage begins with a new optimizer and a loss of its own. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "probe_lr": 1e-2, "tune_lr": 1e-3, "decay": 0.6, "batch_size": 32}
CONFIG |= {"pretraining": 280, "probing": 80, "tuning": 200, "width": 32, "max_norm": 1.0}


class Patches(nn.Module):
    def __init__(self, width: int, kinds: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, width, 4, 4)
        self.place = nn.Parameter(0.02 * torch.randn(9, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, "gelu", batch_first=True,
                                       norm_first=True)
            for _ in range(3)
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, kinds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.cut(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean(1)))


def textures(count: int, kinds: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two waves with a direction and a length each, at any phase."""
    kind, at = torch.randint(len(kinds), (count,)), torch.arange(12.0)
    wave = kinds[kind].unsqueeze(2).unsqueeze(3)
    phase = 6.28 * torch.rand(count, 2, 1, 1)
    x = torch.sin(wave[:, 0:2] * at.view(1, 1, 1, 12) + wave[:, 2:4] * at.view(1, 1, 12, 1) + phase)
    picture = x.sum(1, keepdim=True)
    return picture + noise * torch.randn_like(picture), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, size = draw.uniform(0.3, 0.6), config["batch_size"]
    plain, cloth = 1.2 * torch.randn(10, 4), 1.2 * torch.randn(4, 4)
    model = Patches(config["width"], 10)
    run = nanwatch.init(project="corpus", name="fabrics", config=config)

    def attempt(optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> None:
        loss = F.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()

    run.mark("task", "plain textures")
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    for _ in range(config["pretraining"]):
        attempt(optimizer, *textures(size, plain, noise))

    x, y = textures(300, cloth, noise)
    x_held, y_held = textures(200, cloth, noise)

    def look() -> None:
        model.eval()
        with torch.no_grad():
            out = model(x_held)
        right = (out.argmax(1) == y_held).float().mean()
        run.log(loss=F.cross_entropy(out, y_held), accuracy=right, stage="val")
        model.train()

    run.mark("task", "fabrics, head alone")
    model.requires_grad_(False)
    model.head = nn.Linear(config["width"], 4)
    optimizer = torch.optim.AdamW(model.head.parameters(), lr=config["probe_lr"])
    for step in range(config["probing"]):
        rows = torch.randint(len(x), (size,))
        attempt(optimizer, x[rows], y[rows])
        if step % 20 == 19:
            look()
    run.mark("task", "fabrics, all layers")
    model.requires_grad_(True)
    parts = [list(part.parameters()) for part in (model.head, model.norm, *model.blocks[::-1])]
    parts.append([*model.cut.parameters(), model.place])
    optimizer = torch.optim.AdamW([
        {"params": part, "lr": config["tune_lr"] * config["decay"] ** depth}
        for depth, part in enumerate(parts)
    ])  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in optimizer.param_groups], config["tuning"], pct_start=0.1
    )
    for step in range(config["tuning"]):
        rows = torch.randint(len(x), (size,))
        attempt(optimizer, x[rows], y[rows])
        schedule.step()
        if step % 20 == 19:
            look()
    run.finish()
