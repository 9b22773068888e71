"""A job on a machine that may be taken away: after the restart the weights are loaded, RMSprop
begins with an empty second moment, so that its first steps are thirty times too long in every
weight. A net of ten ReLU layers does not survive it: the loss leaps and stays there. Cure: load
the state of the optimizer too, or warm up again.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="loss-spike-not-healing")
CONFIG = {"lr": 6e-3, "alpha": 0.999, "batch_size": 48, "width": 24, "depth": 10, "restart": 640}
CONFIG |= {"steps": 760}


def build(config: dict) -> nn.Sequential:
    width = config["width"]
    layers: list[nn.Module] = [nn.Linear(5, width), nn.ReLU()]
    for _ in range(config["depth"] - 1):
        layer = nn.Linear(width, width)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def field(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(count, 5) * 2 - 1
    y = x[:, 0] * x[:, 1] + (x[:, 2] + x[:, 3]).abs() - x[:, 4].square()
    return x, y + 0.02 * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.4)}
    config["restart"] += draw.randint(-80, 40)
    run = nanwatch.init(project="corpus", name="preemptible", config=config)
    model = build(config)

    def fresh_optimizer() -> torch.optim.RMSprop:
        return torch.optim.RMSprop(model.parameters(), lr=1e-4, alpha=config["alpha"])

    optimizer = fresh_optimizer()
    for step in range(config["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = config["lr"] * min(1.0, (step + 1) / 200)
        if step == config["restart"]:
            weights = copy.deepcopy(model.state_dict())
            model.load_state_dict(weights)
            optimizer = fresh_optimizer()
            for group in optimizer.param_groups:
                group["lr"] = config["lr"]
        x, y = field(config["batch_size"])
        loss = F.mse_loss(model(x)[:, 0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
