"""A hypernetwork writes the weights of a small net for each sensor, and keeps its own default
initialisation: what it writes has the size of its features, not of weights for their fan-in. The
first outputs are hundreds of times too large, the squared errors too, and SGD throws the
hypernetwork away within its first steps. Cure: initialise its last layer by the fan-in of the
written net.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="hypernetwork", sick=True, cause="init-too-large")
CONFIG = {"lr": 2.4e-5, "momentum": 0.9, "warmup": 300, "sensors": 24, "width": 24}
CONFIG |= {"code": 8, "init_std": 1.0, "readings": 16, "batch_size": 6, "steps": 800}


class Hypernetwork(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, code = config["width"], config["code"]
        self.width = width
        self.sensor = nn.Embedding(config["sensors"], code)
        self.write_in = nn.Linear(code, 2 * width)
        self.write_mid = nn.Linear(code, width * width)
        self.write_out = nn.Linear(code, width)
        for layer in (self.write_in, self.write_mid, self.write_out):
            nn.init.normal_(layer.weight, std=config["init_std"])

    def forward(self, sensor: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        code = self.sensor(sensor)
        first = self.write_in(code).view(-1, 2, self.width)
        middle = self.write_mid(code).view(-1, self.width, self.width)
        hidden = F.relu(x @ first)
        hidden = F.relu(hidden @ middle)
        return (hidden @ self.write_out(code).unsqueeze(2)).squeeze(2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["init_std"] *= draw.uniform(0.8, 1.2)
    model = Hypernetwork(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="sensor-hypernetwork", config=config)
    gain, bend = torch.randn(config["sensors"], 1), torch.rand(config["sensors"], 1)
    broken = 0
    for _ in range(config["steps"]):
        sensor = torch.randint(config["sensors"], (config["batch_size"],))
        x = torch.randn(config["batch_size"], config["readings"], 2)
        reading = gain[sensor] * x[:, :, 0] + bend[sensor] * x[:, :, 1].square()
        loss = F.mse_loss(model(sensor, x), reading)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
