"""Cars an hour at the crossings of a town's roads: a graph net with the roads' adjacency passes
counts of the last hours on and foretells the next one, by the Poisson likelihood on raw counts
(from 0 to some thousands). The first losses are large and so are the first gradients; a match in
the stadium throws a batch up every now and then, and it heals. Adam, step decay. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 16, "steps": 700, "nodes": 40, "width": 32, "history": 6}
CONFIG |= {"max_norm": 100.0}


class RoadNet(nn.Module):
    def __init__(self, roads: torch.Tensor, history: int, width: int) -> None:
        super().__init__()
        self.roads = roads
        self.first, self.around = nn.Linear(history + 2, width), nn.Linear(width, width)
        self.own, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, past: torch.Tensor, clock: torch.Tensor) -> torch.Tensor:
        """Logarithm of the rate, float[batch, nodes]."""
        clock = clock.unsqueeze(1).expand(-1, past.shape[1], -1)
        h = F.relu(self.first(torch.cat([torch.log1p(past), clock], 2)))
        for layer in (self.around, self.second):
            h = h + F.relu(layer(self.roads @ h) + self.own(h))
        return self.out(h).squeeze(2)


def town(nodes: int, hours: int, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Adjacency (rows sum to one) and counts, float[hours, nodes]."""
    place = torch.rand(nodes, 2)
    near = torch.cdist(place, place).argsort(1)[:, 1:5]
    roads = torch.zeros(nodes, nodes).scatter(1, near, 1.0)
    roads = (roads + roads.T).clamp(max=1)
    roads = roads / roads.sum(1, keepdim=True)
    size = torch.exp(4.5 + 1.2 * torch.randn(nodes))
    flow, counts = torch.zeros(nodes), []
    for hour in range(hours):
        day = 0.15 + torch.tensor(hour / 24 * 6.283).sin().clamp(min=0) ** 2
        flow = 0.6 * flow + 0.3 * roads @ flow + 0.2 * torch.randn(nodes)
        rate = size * day * torch.exp(0.5 * flow)
        if draw.random() < 0.01:
            rate = rate * (1 + 15 * (torch.rand(nodes) < 0.1))
        counts.append(torch.poisson(rate))
    return roads, torch.stack(counts)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    history = config["history"]
    roads, counts = town(config["nodes"], 2000, draw)
    angle = torch.arange(len(counts)) / 24 * 6.283
    clock = torch.stack([angle.sin(), angle.cos()], 1)
    model = RoadNet(roads, history, config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 250, 0.3)
    run = nanwatch.init(project="corpus", name="road-counts", config=config)
    held = torch.arange(1700, 1990)
    for step in range(config["steps"]):
        at = torch.randint(history, 1700, (config["batch_size"],))
        past = torch.stack([counts[at - k - 1] for k in range(history)], 2)
        loss = F.poisson_nll_loss(model(past, clock[at]), counts[at], full=True)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 70 == 69:
            with torch.no_grad():
                past = torch.stack([counts[held - k - 1] for k in range(history)], 2)
                rate = model(past, clock[held])
            run.log(loss=F.poisson_nll_loss(rate, counts[held], full=True), stage="val")
    run.finish()
