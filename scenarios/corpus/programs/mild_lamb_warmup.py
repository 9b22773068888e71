"""Leaves are told apart with batches of 1024 and LAMB: a long warm-up during which the rate
grows by a factor of a hundred, with it updates, then weights and logits; a polynomial way down
after it. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="large-batch", sick=False, seeds=3)
CONFIG = {"lr": 0.02, "batch_size": 1024, "steps": 260, "warmup": 100, "weight_decay": 0.01}
CONFIG |= {"species": 10, "hidden": 64}


class Lamb(torch.optim.Optimizer):
    """Adam whose step of a layer is as long as its weights times the rate."""

    def __init__(self, params, lr: float, weight_decay: float, betas=(0.9, 0.999)) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            slow, slower = group["betas"]
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["at"], state["mean"] = 0, torch.zeros_like(weight)
                    state["square"] = torch.zeros_like(weight)
                state["at"] += 1
                state["mean"].lerp_(weight.grad, 1 - slow)
                state["square"].lerp_(weight.grad.square(), 1 - slower)
                mean = state["mean"] / (1 - slow ** state["at"])
                square = state["square"] / (1 - slower ** state["at"])
                update = mean / (square.sqrt() + 1e-6) + group["weight_decay"] * weight
                size, length = weight.norm(), update.norm()
                trust = float(size / length) if size > 0 and length > 0 else 1.0
                weight.add_(update, alpha=-group["lr"] * min(trust, 10.0))


def leaves(count: int, species: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(len(species), (count,))
    turned = torch.where(torch.rand(count, 1) < 0.5, species[kind], species[kind].roll(3, 1))
    return turned + noise * torch.randn_like(turned), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    species, noise = torch.randn(config["species"], 24), draw.uniform(0.7, 1.0)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(24, hidden), nn.LayerNorm(hidden), nn.GELU(),
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(),
        nn.Linear(hidden, config["species"]),
    )  # fmt: skip
    optimizer = Lamb(model.parameters(), config["lr"], config["weight_decay"])

    def rate(step: int) -> float:
        if step < config["warmup"]:
            return (step + 1) / config["warmup"]
        return 1 - (step - config["warmup"]) / (config["steps"] - config["warmup"])

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    run = nanwatch.init(project="corpus", name="leaves", config=config)
    for _ in range(config["steps"]):
        x, kind = leaves(config["batch_size"], species, noise)
        loss = F.cross_entropy(model(x), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    run.finish()
