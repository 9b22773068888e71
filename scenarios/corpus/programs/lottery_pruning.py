"""Iterative magnitude pruning: train, cut 40 % of the weights, rewind the rest to their first
values, five times.  The loss starts anew each time and 87 % of the weights are zero at the end."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pruning", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "batch_size": 64, "rounds": 5, "steps_a_round": 200, "cut": 0.4}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([96, 128])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="lottery", config=config)
    teacher = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4)).requires_grad_(False)
    teacher[0].weight.mul_(6)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 16)
        return x, teacher(x).argmax(1)

    model = nn.Sequential(
        nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 4)
    )
    first = copy.deepcopy(model.state_dict())
    weights = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    masks = {name: torch.ones_like(p) for name, p in weights.items()}
    for round_number in range(CONFIG["rounds"]):
        model.load_state_dict(first)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        for _ in range(CONFIG["steps_a_round"]):
            with torch.no_grad():
                for name, mask in masks.items():
                    weights[name].mul_(mask)
            x, label = batch(CONFIG["batch_size"])
            loss = F.cross_entropy(model(x), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, label = batch(1000)
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)
            run.log(accuracy=(model(x).argmax(1) == label).float().mean(), stage="val")
        run.log(kept=(1 - CONFIG["cut"]) ** round_number)
        for name, mask in masks.items():
            alive = weights[name].detach().abs()[mask > 0]
            mask.mul_(weights[name].detach().abs() > alive.quantile(CONFIG["cut"]))
    run.finish()
