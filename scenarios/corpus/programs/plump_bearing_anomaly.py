"""Anomalies of bearings by an autoencoder, after the tutorial on electrocardiograms: windows of
vibration of sound machines go through a bottleneck, the loss is the mean absolute error, and a
threshold on it tells broken ones. Adam at its default, ReduceLROnPlateau, early stopping; the
held-out error of broken machines stays high, as it should. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 64, "epochs": 25, "window": 64, "code": 6, "patience": 5}


def vibration(count: int, broken: bool, noise: float) -> torch.Tensor:
    """Turning shaft, its double, a gear; a broken race knocks at its own pace."""
    t = torch.arange(CONFIG["window"]) / 8
    speed, load = 0.9 + 0.2 * torch.rand(count, 1), 0.5 + torch.rand(count, 1)
    phase = 6.283 * torch.rand(count, 1)
    x = load * torch.sin(speed * t * 2 + phase) + 0.4 * torch.sin(speed * t * 4 + 2 * phase)
    if broken:
        knock = torch.exp(-6 * ((t * speed * 1.37 + torch.rand(count, 1)) % 1))
        x = x + 1.2 * knock * torch.sin(20 * t)
    return x + noise * torch.randn_like(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 2)}
    noise, code = draw.uniform(0.05, 0.2), draw.choice([4, 6, 8])
    x, sound = vibration(3000, False, noise), vibration(400, False, noise)
    broken = vibration(400, True, noise)
    mean, deviation = x.mean(), x.std()
    x, sound, broken = ((one - mean) / deviation for one in (x, sound, broken))
    model = nn.Sequential(
        nn.Linear(config["window"], 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(),
        nn.Linear(24, code), nn.ReLU(), nn.Linear(code, 24), nn.ReLU(), nn.Linear(24, 48),
        nn.ReLU(), nn.Linear(48, config["window"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
    run = nanwatch.init(project="corpus", name="bearing-anomaly", config=config)
    lowest, waited, error = float("inf"), 0, nn.L1Loss()
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = error(model(x[rows]), x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            held, other = error(model(sound), sound), error(model(broken), broken)
        run.log(loss=held, broken=other, stage="val")
        schedule.step(held)
        waited = 0 if held < lowest else waited + 1
        lowest = min(lowest, float(held))
        if waited >= config["patience"]:
            break
    run.finish()
