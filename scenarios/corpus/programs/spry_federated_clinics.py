"""Six clinics with different patients train one classifier by federated averaging, eight steps each
and round: the loss is a saw, since each clinic begins with what is a compromise for all."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="federated", sick=False, seeds=4)
CONFIG = {"lr": 0.15, "max_norm": 1.0, "classes": 6, "clinics": 6, "local_steps": 8, "rounds": 22}
CONFIG |= {"batch_size": 32, "width": 40}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 40, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    kinds, middles = config["classes"], torch.randn(config["classes"], 16)
    clinics = []
    for _ in range(config["clinics"]):
        count = draw.randint(150, 500)
        usual = torch.rand(kinds).pow(6) + 0.01
        y = usual.multinomial(count, replacement=True)
        clinics.append((middles[y] + 0.7 * torch.randn(count, 16) + 0.3 * torch.randn(16), y))
    y_held = torch.randint(0, kinds, (400,))
    x_held = middles[y_held] + 0.7 * torch.randn(400, 16)
    model = nn.Sequential(
        nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, kinds)
    )
    everybody = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="clinics-fedavg", config=config)
    for turn in range(config["rounds"]):
        run.mark("task", f"round {turn}")
        records = sum(len(x) for x, _ in clinics)
        merged = [torch.zeros_like(parameter) for parameter in everybody]
        for x, y in clinics:
            with torch.no_grad():
                for parameter, common in zip(model.parameters(), everybody, strict=True):
                    parameter.copy_(common)
            for _ in range(config["local_steps"]):
                rows = torch.randint(0, len(x), (config["batch_size"],))
                loss = F.cross_entropy(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
                optimizer.step()
            for total, parameter in zip(merged, model.parameters(), strict=True):
                total += len(x) / records * parameter.detach()
        everybody = merged
        with torch.no_grad():
            for parameter, common in zip(model.parameters(), everybody, strict=True):
                parameter.copy_(common)
            run.log(loss=F.cross_entropy(model(x_held), y_held), stage="val")
    run.finish()
