"""Who would take the night bus? A survey in which some people stand for three and some for four
hundred inhabitants: the loss is weighted by that, so that a batch with one of the latter is ten
to thirty times the usual one. Gradients are clipped for those batches; the fit gets better all
the time."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="survey", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 24, "rare": 0.006, "max_norm": 5.0, "steps": 900}


def asked(count: int, rare: float, taste: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Answers of `count` people: what is known of them, yes or no, and how many they stand for."""
    x = torch.randn(count, 7)
    hard_to_reach = torch.rand(count) < rare
    x[hard_to_reach, 0] += 1.5
    says = torch.sigmoid(2.5 * (x @ taste) + 1.5 * x[:, 1] * x[:, 2] - 0.5)
    weight = 3 * torch.exp(0.4 * torch.randn(count))
    weight = torch.where(hard_to_reach, 200 + 200 * torch.rand(count), weight)
    return x, torch.bernoulli(says), weight


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="night-bus", config=config)
    taste = torch.randn(7) / 7**0.5
    x, y, weight = asked(8000, config["rare"], taste)
    held_x, held_y, held_weight = asked(2000, config["rare"], taste)
    weight, held_weight = weight / weight.mean(), held_weight / held_weight.mean()
    model = nn.Sequential(
        nn.Linear(7, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"] + 1)
    for step in range(config["steps"]):
        rows = torch.randint(0, len(x), (config["batch_size"],))
        loss = F.binary_cross_entropy_with_logits(model(x[rows])[:, 0], y[rows], weight[rows])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                right = (model(held_x)[:, 0] > 0) == (held_y > 0.5)
                run.log(accuracy=(right * held_weight).mean(), stage="val")
    run.finish()
