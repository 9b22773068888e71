"""VICReg on weather maps seen through two noisy instruments: an invariance term times 25, a hinge
on the spread and a covariance penalty; the loss is a large sum that can not reach zero."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 64, "alike": 25.0, "spread": 25.0, "apart": 1.0, "warmup": 60,
          "steps": 650}  # fmt: skip


def maps(count: int, fields: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixtures of pressure fields on 6x6 places, and which field is the strongest."""
    share = torch.randn(count, len(fields))
    share = 1.5 * share * (share.abs() == share.abs().amax(1, keepdim=True)) + 0.3 * share
    return torch.einsum("nk,kp->np", share.abs(), fields), share.abs().argmax(1)


def seen(x: torch.Tensor) -> torch.Tensor:
    """Another gain, noise, and a third of the places missing."""
    gain = 1 + 0.2 * torch.randn(len(x), 1)
    return (gain * x + 0.6 * torch.randn_like(x)) * (torch.rand_like(x) > 0.3)


def spread(z: torch.Tensor) -> torch.Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def apart(z: torch.Tensor) -> torch.Tensor:
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    return (covariance - covariance.diag().diag()).square().sum() / z.shape[1]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="weather-vicreg", config=config)
    fields = torch.randn(10, 36) / 2
    encoder = nn.Sequential(nn.Linear(36, width), nn.ReLU(), nn.Linear(width, 16))
    expander = nn.Sequential(nn.Linear(16, width), nn.BatchNorm1d(width), nn.ReLU())
    model = nn.Sequential(encoder, expander, nn.Linear(width, 32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, CONFIG["warmup"])
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer, [warm, cosine], milestones=[CONFIG["warmup"]]
    )
    (x, kind), (test, right) = maps(600, fields), maps(400, fields)
    for step in range(CONFIG["steps"]):
        now, _ = maps(CONFIG["batch_size"], fields)
        a, b = model(seen(now)), model(seen(now))
        loss = CONFIG["alike"] * F.mse_loss(a, b) + CONFIG["spread"] * (spread(a) + spread(b)) / 2
        loss = loss + CONFIG["apart"] * (apart(a) + apart(b))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                near = torch.cdist(encoder(seen(test)), encoder(seen(x))).argmin(1)
                run.log(nearest=(kind[near] == right).float().mean(), stage="val")
    run.finish()
