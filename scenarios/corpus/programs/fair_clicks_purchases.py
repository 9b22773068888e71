"""Clicks, purchases and the money spent by one multi-gate mixture of experts: two cross-entropies
and a squared error of logarithms; purchases are rare, gradients in conflict are projected."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 64, "experts": 3, "tasks": 3, "weight_decay": 1e-4,
          "steps": 650}  # fmt: skip


class Mixture(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        experts, tasks = CONFIG["experts"], CONFIG["tasks"]
        self.experts = nn.Linear(10, experts * width)
        self.gates = nn.Linear(10, experts * tasks)
        self.heads = nn.Parameter(torch.randn(tasks, width) / width**0.5)
        self.bias = nn.Parameter(torch.tensor([-1.0, -3.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, tasks]"""
        made = F.gelu(self.experts(x)).unflatten(1, (CONFIG["experts"], -1))
        gates = self.gates(x).unflatten(1, (CONFIG["tasks"], -1)).softmax(2)
        return (torch.bmm(gates, made) * self.heads).sum(2) + self.bias


class Shop:
    def __init__(self, draw: random.Random) -> None:
        self.law = torch.randn(10, 3) * torch.tensor([0.5, 0.4, 0.3])
        self.law[:, 2] -= draw.uniform(0.2, 0.5) * self.law[:, 0]

    def visits(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 10)
        taste = x @ self.law + 0.5 * torch.sin(2 * x[:, :3])
        clicked = torch.rand(count) < torch.sigmoid(taste[:, 0] - 1)
        bought = clicked & (torch.rand(count) < torch.sigmoid(taste[:, 1] - 1))
        spent = 2.5 + taste[:, 2] + 0.5 * torch.randn(count)
        return x, clicked.float(), bought.float(), spent


def losses(model: nn.Module, visits: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    x, clicked, bought, spent = visits
    click, buy, money = model(x).T
    squared = bought * (money - spent).square()
    return [
        F.binary_cross_entropy_with_logits(click, clicked),
        F.binary_cross_entropy_with_logits(buy, bought),
        squared.sum() / (bought.sum() + 1),
    ]


def projected(slopes: list[torch.Tensor], draw: random.Random) -> torch.Tensor:
    """PCGrad: of each gradient the part that fights another one is taken away."""
    total = torch.zeros_like(slopes[0])
    for mine in slopes:
        kept = mine.clone()
        for other in draw.sample(slopes, len(slopes)):
            inner = kept @ other
            if inner < 0:
                kept -= inner / (other @ other + 1e-12) * other
        total += kept
    return total


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="clicks-purchases", config=config)
    shop, model = Shop(draw), Mixture(width)
    held, weights = shop.visits(3000), list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 250, 0.3)
    for step in range(CONFIG["steps"]):
        parts = losses(model, shop.visits(CONFIG["batch_size"]))
        slopes = []
        for part in parts:
            found = torch.autograd.grad(
                part, weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            slopes.append(torch.cat([slope.flatten() for slope in found]))
        pieces = projected(slopes, draw).split([w.numel() for w in weights])
        for weight, piece in zip(weights, pieces, strict=True):
            weight.grad = piece.view_as(weight)
        optimizer.step()
        schedule.step()
        run.log(loss=sum(parts).detach())
        if step % 100 == 99:
            with torch.no_grad():
                click, buy, money = losses(model, held)
            run.log(click=click, buy=buy, money=money, stage="val")
    run.finish()
