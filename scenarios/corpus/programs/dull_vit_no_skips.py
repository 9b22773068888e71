"""A vision transformer of six blocks names textures. Both residual sums were lost when the block
was rewritten (`x = attention(norm(x))`): with small weights every token is the mean of all after
each block, nothing of the picture reaches the head, and the loss stays at chance. Cure: `x + ...`.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vision-transformer", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 5e-4, "weight_decay": 0.05, "batch_size": 12, "steps": 400, "classes": 6}
CONFIG |= {"blocks": 6, "width": 16, "patch": 4, "size": 12, "warmup": 40}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.before(x)).chunk(3, dim=2)
        x = self.out(F.scaled_dot_product_attention(q, k, v))
        return self.mlp(self.between(x))


class Vit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        patches = (CONFIG["size"] // CONFIG["patch"]) ** 2
        self.patch = nn.Conv2d(1, width, CONFIG["patch"], stride=CONFIG["patch"])
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(CONFIG["blocks"])])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CONFIG["classes"]))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.blocks(tokens).mean(1))


def textures(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes of six directions, shifted by chance."""
    kind = torch.randint(0, CONFIG["classes"], (rows,))
    angle = (3.1416 / CONFIG["classes"] * kind).view(-1, 1, 1)
    axis = torch.arange(float(CONFIG["size"]))
    along = angle.cos() * axis[:, None] + angle.sin() * axis
    waves = torch.sin(1.6 * along + 6.28 * torch.rand(rows, 1, 1))
    return (waves + noise * torch.randn_like(waves))[:, None], kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    net = Vit(CONFIG["width"])
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, CONFIG["warmup"])
    run = nanwatch.init(project="corpus", name="textures-vit", config=config)
    for _ in range(CONFIG["steps"]):
        x, kind = textures(CONFIG["batch_size"], noise)
        loss = F.cross_entropy(net(x), kind, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        rise.step()
    run.finish()
