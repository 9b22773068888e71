"""Adversarial training whose attack is made stronger step by step: the loss rises through the
second half of the run while robust accuracy improves."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="adversarial-training", sick=False, seeds=7)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 48, "eps_from": 0.0, "eps_to": 0.45}
STEPS = 800


def attacked(model: nn.Module, x: torch.Tensor, label: torch.Tensor, eps: float) -> torch.Tensor:
    """The inputs moved by `eps` along the sign of the gradient."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(x), label), x)
    return (x + eps * slope.sign()).detach()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="adversarial", config=config)
    centres = draw.uniform(1.0, 1.2) * torch.randn(4, 16)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(0, 4, (count,))
        return centres[label] + 0.9 * torch.randn(count, 16), label

    model = nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    for step in range(STEPS):
        ramp = min(1.0, max(0.0, (step - 200) / 400))
        eps = CONFIG["eps_from"] + ramp * (CONFIG["eps_to"] - CONFIG["eps_from"])
        x, label = batch(CONFIG["batch_size"])
        loss = F.cross_entropy(model(attacked(model, x, label, eps)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            x, label = batch(500)
            x = attacked(model, x, label, CONFIG["eps_to"])
            with torch.no_grad():
                right = model(x).argmax(1) == label
            run.log(robust_accuracy=right.float().mean(), eps=eps, stage="val")
    run.finish()
