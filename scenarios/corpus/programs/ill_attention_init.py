"""A set classifier with attention whose "re-initialisation" draws every matrix from N(0, 1): the
attention is one-hot from the start, the logits are in the hundreds, and AdamW at 1e-4 does not
get below the loss of guessing in the time there is. Never NaN. Cure: std 0.02 or the defaults.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="init-too-large")
CONFIG = {"lr": 1e-4, "init_std": 1.0, "width": 48, "classes": 6, "members": 9, "batch_size": 24}
CONFIG |= {"steps": 600}


class SetNet(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Linear(3, width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, config["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.down(F.relu(self.up(x)))
        return self.head(x.mean(1))


def clouds(config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Point clouds; the class is how far they are stretched along one axis."""
    label = torch.randint(config["classes"], (config["batch_size"],))
    x = torch.randn(config["batch_size"], config["members"], 3)
    x[:, :, 0] *= (0.5 + 0.7 * label)[:, None]
    return x, label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = SetNet(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=config["init_std"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="set-attention", config=config)
    for _ in range(config["steps"]):
        x, label = clouds(config)
        loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
