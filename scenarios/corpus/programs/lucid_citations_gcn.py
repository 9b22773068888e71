"""Which of six fields is a paper of? A graph convolutional net of two layers on a made-up citation
graph, all of it at once, twenty labelled papers a field, dropout of one half on inputs and hidden
units, weight decay on the first layer, Adam at 0.01, 400 epochs: the recipe of Kipf and Welling.
The loss of the few is noisy from dropout and falls slowly, held-out accuracy rises. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "weight_decay": 5e-4, "epochs": 400, "papers": 600, "words": 200}
CONFIG |= {"hidden": 16, "dropout": 0.5, "labelled": 20, "classes": 6}


class Gcn(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.one = nn.Linear(config["words"], config["hidden"])
        self.two = nn.Linear(config["hidden"], config["classes"])
        self.dropout = nn.Dropout(config["dropout"])

    def forward(self, x: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
        x = F.relu(links @ self.one(self.dropout(x)))
        return links @ self.two(self.dropout(x))


def citations(config: dict, mixing: float):
    """Papers cite their own field more; each field has words that it likes."""
    count = config["papers"]
    field = torch.randint(config["classes"], (count,))
    same = field.unsqueeze(0) == field.unsqueeze(1)
    near = torch.rand(count, count) < torch.where(same, 0.03, 0.03 * mixing)
    near = near.triu(1)
    links = (near | near.T).float() + torch.eye(count)
    scale = links.sum(1).rsqrt()
    odds = 0.03 + 0.08 * (torch.rand(config["classes"], config["words"]) < 0.15)
    words = (torch.rand(count, config["words"]) < odds[field]).float()
    words = words / words.sum(1, keepdim=True).clamp(min=1)
    return words, scale.unsqueeze(1) * links * scale, field


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.6)}
    x, links, field = citations(config, draw.uniform(0.05, 0.15))
    order = torch.randperm(len(x))
    known = torch.cat([
        order[field[order] == kind][: config["labelled"]] for kind in range(config["classes"])
    ])  # fmt: skip
    held = order[~torch.isin(order, known)][:300]
    model = Gcn(config)
    optimizer = torch.optim.Adam(
        [
            {"params": model.one.parameters(), "weight_decay": config["weight_decay"]},
            {"params": model.two.parameters(), "weight_decay": 0.0},
        ],
        lr=config["lr"],
    )
    run = nanwatch.init(project="corpus", name="citations", config=config)
    for epoch in range(config["epochs"]):
        model.train()
        loss = F.cross_entropy(model(x, links)[known], field[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % 20 == 19:
            model.eval()
            with torch.no_grad():
                out = model(x, links)[held]
            right = (out.argmax(1) == field[held]).float().mean()
            run.log(loss=F.cross_entropy(out, field[held]), accuracy=right, stage="val")
    run.finish()
