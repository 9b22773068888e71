"""Federated averaging between hospitals with different patients. The server adds momentum, 0.9,
to the averaged change and multiplies it ("server learning rate 3.9"): from round to round the
model swings further beyond what the hospitals ask for. Cure: a server rate of one without so much
momentum.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="federated", sick=True, cause="divergence-slow")
CONFIG = {"lr": 0.04, "server_lr": 3.9, "server_momentum": 0.9, "hospitals": 5, "local_steps": 8}
CONFIG |= {"rounds": 60, "batch_size": 16, "features": 10}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    features = config["features"]
    truth = torch.randn(features, 2) / features**0.5
    habits = 0.8 * torch.randn(config["hospitals"], features)
    model = nn.Sequential(nn.Linear(features, 24), nn.LeakyReLU(0.1), nn.Linear(24, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="fedavg-stay", config=config)
    server = nn.utils.parameters_to_vector(model.parameters()).detach()
    velocity = torch.zeros_like(server)
    broken = 0
    for number in range(config["rounds"]):
        changes = []
        for habit in habits:
            nn.utils.vector_to_parameters(server.clone(), model.parameters())
            for _ in range(config["local_steps"]):
                x = habit + torch.randn(config["batch_size"], features)
                stay = (x @ truth).square().sum(1, keepdim=True)
                stay = stay + 0.2 * torch.randn_like(stay)
                loss = F.mse_loss(model(x), stay)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                broken += not torch.isfinite(loss)
            changes.append(nn.utils.parameters_to_vector(model.parameters()).detach() - server)
        velocity = config["server_momentum"] * velocity + torch.stack(changes).mean(0)
        server = server + config["server_lr"] * velocity
        run.log(round=number, change=velocity.norm())
        if broken > 30:
            break
    run.finish()
