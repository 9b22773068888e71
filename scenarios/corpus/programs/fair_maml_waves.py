"""MAML with second derivatives: an inner step on ten points of a damped wave, and the outer loss is
that of the adapted net on other points. Tasks differ much, and so do the losses of batches."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="meta-learning", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "inner_lr": 0.05, "tasks": 4, "shots": 10,
          "max_norm": 5.0, "steps": 600}  # fmt: skip


class Waves:
    """Tasks: height, phase and damping of waves over [-3, 3]; samples are [tasks, count, 1]."""

    def __init__(self, tasks: int) -> None:
        self.height = 0.3 + 3.7 * torch.rand(tasks, 1, 1)
        self.phase, self.damping = 3.14 * torch.rand(tasks, 1, 1), 0.3 * torch.rand(tasks, 1, 1)

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = 6 * torch.rand(len(self.height), count, 1) - 3
        return x, self.height * torch.exp(-self.damping * x) * torch.sin(2 * x + self.phase)


class Net(nn.Module):
    """Two tanh layers; `forward` takes weights with a dimension for the tasks in front."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        layers = [nn.Linear(1, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)]
        self.weights = nn.ParameterList(
            value for layer in layers for value in (layer.weight.T.clone(), layer.bias[None])
        )

    def forward(self, x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
        for weight, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
            x = torch.tanh(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(weights[5], x, weights[4])

    def adapted(self, waves: Waves, graph: bool) -> list[torch.Tensor]:
        """The weights after one inner step on a few points of each task."""
        x, y = waves.sample(CONFIG["shots"])
        weights = [value.expand(len(x), -1, -1) for value in self.weights]
        loss = (self(x, weights) - y).square().mean((1, 2)).sum()
        slopes = torch.autograd.grad(loss, weights, create_graph=graph)
        return [w - CONFIG["inner_lr"] * s for w, s in zip(weights, slopes, strict=True)]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="maml-waves", config=config)
    model, test = Net(hidden), Waves(30)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        waves = Waves(CONFIG["tasks"])
        weights = model.adapted(waves, graph=True)
        x, y = waves.sample(CONFIG["shots"])
        loss = F.mse_loss(model(x, weights), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        if step % 130 == 129:
            weights = model.adapted(test, graph=False)
            x, y = test.sample(50)
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(x, weights), y), stage="val")
    run.finish()
