"""Differentially private training on patient records: the gradient of every patient is cut to a
norm of 1 and noise is added to their sum, so that the gradient is mostly noise from the start."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = {"lr": 0.3, "momentum": 0.9, "batch_size": 64, "clip_each": 1.0, "noise": 0.6,
          "classes": 3, "steps": 700}  # fmt: skip


def patients(count: int, law: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 14)
    x[:, 7:] = (x[:, 7:] > 0.5).float()
    leaning = torch.tanh(x @ law[0]) @ law[1]
    gumbel = -(-torch.rand_like(leaning).clamp(1e-6, 1 - 1e-6).log()).log()
    return x, (leaning + 0.5 * gumbel).argmax(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.2), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    law = (torch.randn(14, 8) / 2, 1.5 * torch.randn(8, CONFIG["classes"]))
    (x, y), (test, right) = patients(5000, law), patients(1000, law)
    run = nanwatch.init(project="corpus", name="private-sgd", config=config)
    model = nn.Sequential(nn.Linear(14, width), nn.Tanh(), nn.Linear(width, CONFIG["classes"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr / 3, momentum=CONFIG["momentum"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])

    def loss_of(weights: dict[str, torch.Tensor], one: torch.Tensor, kind: torch.Tensor):
        logits = functional_call(model, weights, (one[None],))
        return F.cross_entropy(logits, kind[None])

    each = vmap(grad_and_value(loss_of), in_dims=(None, 0, 0))
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        weights = {name: value.detach() for name, value in model.named_parameters()}
        slopes, losses = each(weights, x[rows], y[rows])
        norms = torch.stack([s.flatten(1).norm(dim=1) for s in slopes.values()]).norm(dim=0)
        factor = (CONFIG["clip_each"] / norms).clamp(max=1.0)
        for name, value in model.named_parameters():
            total = torch.einsum("n,n...->...", factor, slopes[name])
            noise = CONFIG["noise"] * CONFIG["clip_each"] * torch.randn_like(total)
            value.grad = (total + noise) / len(rows)
        optimizer.step()
        schedule.step()
        run.log(loss=losses.mean())
        if step % 100 == 99:
            with torch.no_grad():
                run.log(accuracy=(model(test).argmax(1) == right).float().mean(), stage="val")
    run.finish()
