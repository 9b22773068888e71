"""A graph network labels the nodes of random communities. The batch is doubled every hundred and
twenty steps and the rate with it, as the linear scaling rule has it; but the rule was put both into
the schedule and into the loss, which is a sum over the batch. The rate thus grows with the square
of the batch, and after some doublings the loss swings up until it overflows. Cure: the mean.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="lr-too-high-late")
CONFIG = {"base_lr": 5e-4, "momentum": 0.9, "batch_size": 2, "double_every": 120, "nodes": 24}
CONFIG |= {"classes": 3, "hidden": 24, "steps": 900}


def graphs(n: int, nodes: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Adjacency with loops, normalised by rows; noisy hints; communities."""
    label = torch.randint(classes, (n, nodes))
    same = label.unsqueeze(1) == label.unsqueeze(2)
    edge = (torch.rand(n, nodes, nodes) < torch.where(same, 0.4, 0.08)).float().triu(1)
    edge = edge + edge.transpose(1, 2) + torch.eye(nodes)
    hint = F.one_hot(label, classes) + 1.0 * torch.randn(n, nodes, classes)
    return edge / edge.sum(2, keepdim=True), hint, label


class GraphNet(nn.Module):
    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__()
        self.into, self.own = nn.Linear(classes, hidden), nn.Linear(hidden, hidden)
        self.near, self.head = nn.Linear(hidden, hidden), nn.Linear(hidden, classes)

    def forward(self, edge: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.into(edge @ x))
        x = x + F.leaky_relu(self.own(x) + edge @ self.near(x))
        x = x + F.leaky_relu(self.own(x) + edge @ self.near(x))
        return self.head(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "base_lr": CONFIG["base_lr"] * draw.uniform(0.7, 1.4)}
    model = GraphNet(config["classes"], config["hidden"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["base_lr"], momentum=config["momentum"], nesterov=True
    )
    scaling = torch.optim.lr_scheduler.StepLR(optimizer, config["double_every"], gamma=2.0)
    run = nanwatch.init(project="corpus", name="communities", config=config)
    broken = 0
    for step in range(config["steps"]):
        batch = min(64, config["batch_size"] * 2 ** (step // config["double_every"]))
        edge, x, label = graphs(batch, config["nodes"], config["classes"])
        logits = model(edge, x)
        loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="sum")
        loss = loss / config["nodes"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scaling.step()
        run.log(loss=loss.item() / batch, batch_size=batch)
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
